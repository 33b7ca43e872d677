package login

import (
	"net"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// A name may be tried in vain from an address this often at once, and then once in perAttempt; an
	// address, behind which there may be many people, with several names.
	burst        = 10
	addressBurst = 100
	perAttempt   = 6 * time.Second
	// maxTracked bounds the memory that strangers can take.
	maxTracked = 10_000
)

// attempts bound how fast passwords can be tried.
type attempts struct {
	mu       sync.Mutex
	limiters map[string]*rate.Limiter
}

func newAttempts() *attempts {
	return &attempts{limiters: make(map[string]*rate.Limiter)}
}

// begin counts an attempt, and says whether it may be made. One that was not in vain is taken back.
func (a *attempts) begin(name, address string, now time.Time) (takeBack func(), ok bool) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	byHost, byName := a.limiter(host, addressBurst, now), a.limiter(host+" "+name, burst, now)
	if byHost.TokensAt(now) < 1 || byName.TokensAt(now) < 1 {
		return nil, false
	}
	taken := []*rate.Reservation{byHost.ReserveN(now, 1), byName.ReserveN(now, 1)}
	return func() {
		for _, reservation := range taken {
			reservation.CancelAt(now)
		}
	}, true
}

func (a *attempts) limiter(key string, burst int, now time.Time) *rate.Limiter {
	limiter := a.limiters[key]
	if limiter == nil {
		if len(a.limiters) >= maxTracked {
			a.forget(now)
		}
		limiter = rate.NewLimiter(rate.Every(perAttempt), burst)
		a.limiters[key] = limiter
	}
	return limiter
}

// forget drops those that have been quiet long enough to begin anew anyway, or all.
func (a *attempts) forget(now time.Time) {
	for key, limiter := range a.limiters {
		if limiter.TokensAt(now) >= float64(limiter.Burst()) {
			delete(a.limiters, key)
		}
	}
	if len(a.limiters) >= maxTracked {
		clear(a.limiters)
	}
}
