package login

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/client"
)

const (
	// burst failed attempts at a name from one client are allowed at once, and then one every perAttempt. A
	// client, which may be many people, is allowed clientBurst with all names together.
	burst       = 10
	clientBurst = 100
	perAttempt  = 6 * time.Second
	// nameBurst failed attempts at a name are allowed to all clients together from which it has never logged
	// in, and then one every perName. So others cannot lock its owner out of the places where they have logged
	// in before.
	nameBurst = 50
	perName   = 30 * time.Second
	// maxTracked bounds the memory that strangers can use.
	maxTracked = 10_000
)

// attempts limit the rate at which passwords can be tried.
type attempts struct {
	mu       sync.Mutex
	limiters map[tried]*rate.Limiter
	// known are the clients from which each name has logged in since the program started.
	known map[tried]struct{}
}

// tried is a client, a name, or a name from a client.
type tried struct{ client, name string }

func newAttempts() *attempts {
	return &attempts{limiters: make(map[tried]*rate.Limiter), known: make(map[tried]struct{})}
}

// begin counts an attempt, and reports whether it is allowed. takeBack uncounts an attempt that did not fail.
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

// remember records that a name has logged in from an address.
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

// forget drops the limiters that have been idle long enough to be full again.
func (a *attempts) forget(now time.Time) {
	for key, limiter := range a.limiters {
		if limiter.TokensAt(now) >= float64(limiter.Burst()) {
			delete(a.limiters, key)
		}
	}
}

// dropOneOf makes room in a full map. It drops any one: to get rid of a certain one takes many attempts.
func dropOneOf[V any](full map[tried]V) {
	if len(full) < maxTracked {
		return
	}
	for key := range full {
		delete(full, key)
		return
	}
}
