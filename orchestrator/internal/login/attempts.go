package login

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/client"
)

const (
	// A name may be tried in vain from a client this often at once, and then once in perAttempt; a client,
	// behind which there may be many people, with several names.
	burst       = 10
	clientBurst = 100
	perAttempt  = 6 * time.Second
	// A name may be tried in vain this often by all clients from which it never logged in, and then once in
	// perName. So its owner, whom others could lock out otherwise, gets in from where they were before.
	nameBurst = 50
	perName   = 30 * time.Second
	// maxTracked bounds the memory that strangers can take.
	maxTracked = 10_000
)

// attempts bound how fast passwords can be tried.
type attempts struct {
	mu       sync.Mutex
	limiters map[tried]*rate.Limiter
	// known are the clients from which names have logged in since the program began.
	known map[tried]struct{}
}

// tried is a client, a name or a name from a client.
type tried struct{ client, name string }

func newAttempts() *attempts {
	return &attempts{limiters: make(map[tried]*rate.Limiter), known: make(map[tried]struct{})}
}

// begin counts an attempt, and says whether it may be made. One that was not in vain is taken back.
func (a *attempts) begin(name, address string, now time.Time) (takeBack func(), ok bool) {
	from := client.Of(address)
	a.mu.Lock()
	defer a.mu.Unlock()
	limiters := []*rate.Limiter{
		a.limiter(tried{client: from}, perAttempt, clientBurst, now),
		a.limiter(tried{from, name}, perAttempt, burst, now),
	}
	if _, isKnown := a.known[tried{from, name}]; !isKnown {
		limiters = append(limiters, a.limiter(tried{name: name}, perName, nameBurst, now))
	}
	for _, limiter := range limiters {
		if limiter.TokensAt(now) < 1 {
			return nil, false
		}
	}
	var taken []*rate.Reservation
	for _, limiter := range limiters {
		taken = append(taken, limiter.ReserveN(now, 1))
	}
	return func() {
		for _, reservation := range taken {
			reservation.CancelAt(now)
		}
	}, true
}

// remember notes that a name has logged in from an address.
func (a *attempts) remember(name, address string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	dropOneOf(a.known)
	a.known[tried{client.Of(address), name}] = struct{}{}
}

func (a *attempts) limiter(key tried, every time.Duration, burst int, now time.Time) *rate.Limiter {
	limiter := a.limiters[key]
	if limiter == nil {
		if len(a.limiters) >= maxTracked {
			a.forget(now)
		}
		dropOneOf(a.limiters)
		limiter = rate.NewLimiter(rate.Every(every), burst)
		a.limiters[key] = limiter
	}
	return limiter
}

// forget drops those that have been quiet long enough to begin anew anyway.
func (a *attempts) forget(now time.Time) {
	for key, limiter := range a.limiters {
		if limiter.TokensAt(now) >= float64(limiter.Burst()) {
			delete(a.limiters, key)
		}
	}
}

// dropOneOf makes room in a map that is full. Any one goes: to be rid of a certain one takes many attempts.
func dropOneOf[V any](full map[tried]V) {
	if len(full) < maxTracked {
		return
	}
	for key := range full {
		delete(full, key)
		return
	}
}
