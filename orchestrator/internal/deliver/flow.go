package deliver

import (
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/webhook"
)

const (
	// firstLanes is how many posts to an endpoint run at once at first, and mostLanes how many at most, each of another
	// view.
	firstLanes = 4
	mostLanes  = 32
	// maxFurther bounds the posts that run besides the first one of each endpoint; owners share them.
	maxFurther = 1536
	// quickWithin is how fast an endpoint answers that gets more posts at once.
	quickWithin = time.Second
	// ahead is how long the posts take that are received before they are posted, mostAhead how many those are at most, and
	// firstAhead how many while it is not known how long they take: a statement for each few would cost more than they do.
	// Of an endpoint that has refused lately they are few, because each that is not posted is given back.
	ahead             = 2 * time.Second
	mostAhead         = 256
	firstAhead        = 32
	firstAfterRefusal = 2 * firstLanes
)

// A flow is how many posts to an endpoint run at once. An endpoint that accepts them quickly gets one more with each
// round; one that is overloaded gets half as many.
type flow struct {
	// takeFurther takes a place of a post besides the first one, and reports whether there was one; giveFurther gives
	// it back.
	takeFurther func() bool
	giveFurther func()
	firstAhead  int64

	mu      sync.Mutex
	limit   float64
	running int
	further int
	waiting []chan struct{}
	// took is how long a post takes, the last ones above all; 0 while none has ended.
	took time.Duration
	// halvedAt is when the limit was halved: posts that began before say nothing new.
	halvedAt time.Time
}

func newFlow(takeFurther func() bool, giveFurther func(), hasRefused bool) *flow {
	f := &flow{takeFurther: takeFurther, giveFurther: giveFurther, firstAhead: firstAhead, limit: firstLanes}
	if hasRefused {
		f.firstAhead = firstAfterRefusal
	}
	return f
}

// room is how many deliveries may be received before they are posted, and how many of them of one view, so that there are
// runs for all posts at once.
func (f *flow) room() (count, length int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	count = f.firstAhead
	least := 2 * int64(f.limit)
	if f.took > 0 {
		count = min(max(int64(f.limit)*int64(ahead/f.took), least), mostAhead)
	}
	return count, count / least
}

// enter waits until one more post may run. The first always may, so each that waits has another one before it.
func (f *flow) enter() {
	f.mu.Lock()
	if len(f.waiting) == 0 && f.admit() {
		f.mu.Unlock()
		return
	}
	turn := make(chan struct{})
	f.waiting = append(f.waiting, turn)
	f.mu.Unlock()
	<-turn
}

// leave ends what enter began.
func (f *flow) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.running--
	if f.further > 0 {
		f.further--
		f.giveFurther()
	}
	f.callNext()
}

func (f *flow) callNext() {
	for len(f.waiting) > 0 && f.admit() {
		close(f.waiting[0])
		f.waiting = f.waiting[1:]
	}
}

func (f *flow) admit() bool {
	switch {
	case f.running == 0:
	case f.running >= int(f.limit) || !f.takeFurther():
		return false
	default:
		f.further++
	}
	f.running++
	return true
}

// note adapts the limit to the outcome of a post.
func (f *flow) note(failure error, began time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	took := max(time.Since(began), 1)
	if f.took == 0 {
		f.took = took
	}
	f.took = (7*f.took + took) / 8
	switch {
	// Only where all are in use: an endpoint with one view gains nothing, and would get shorter runs.
	case failure == nil && took < quickWithin && f.running >= int(f.limit):
		f.limit = min(f.limit+1/f.limit, mostLanes)
		f.callNext()
	case isOverload(failure) && began.After(f.halvedAt):
		f.limit = max(f.limit/2, 1)
		f.halvedAt = time.Now()
	}
}

// isOverload reports whether a refusal says that the endpoint has too much to do: it asks to slow down, or does not answer.
func isOverload(failure error) bool {
	var refusal *webhook.Refusal
	if !errors.As(failure, &refusal) {
		return false
	}
	switch refusal.Status {
	case 0, http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable,
		http.StatusGatewayTimeout:
		return true
	}
	return false
}
