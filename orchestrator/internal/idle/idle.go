// Package idle lets a server sleep that nobody uses: it stops all that holds connections to it, and starts that again.
package idle

import (
	"context"
	"database/sql"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/retry"
)

const (
	// wakeEarly is how long before something is due the loops start: a server that sleeps takes up to so long to answer.
	wakeEarly = 20 * time.Second
	// askAfter is the time between two looks whether there is something to do.
	askAfter  = 10 * time.Second
	askWithin = 10 * time.Second
	// compareAfter bounds how late a sleep notices that the system's clock was set, or stood still with the machine.
	compareAfter = 30 * time.Second
)

// A Sleeper runs loops while somebody asks for something, or something is due soon, and is asleep otherwise. SQL says
// when something is due.
type Sleeper struct {
	after        time.Duration
	subscription string
	pools        []*sql.DB
	logger       *slog.Logger

	mu       sync.Mutex
	askers   int
	askedAt  time.Time
	isAsleep bool
	// asked receives a value when somebody asks who finds it asleep.
	asked chan struct{}
	// isFailing is whether SQL could not say what is due.
	isFailing atomic.Bool
}

// New returns a Sleeper that falls asleep when nobody has asked for so long; never for 0. Then none of the pools has a
// connection. It asks the first of them what is due, for the program whose own subscription has this name.
func New(after time.Duration, subscription string, pools []*sql.DB, logger *slog.Logger) *Sleeper {
	return &Sleeper{
		after: after, subscription: subscription, pools: pools, logger: logger,
		askedAt: time.Now(), asked: make(chan struct{}, 1),
	}
}

// IsAsleep reports whether the loops do not run.
func (s *Sleeper) IsAsleep() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.isAsleep
}

// Begin notes that somebody asks, and wakes the loops. They run until after the call of end.
func (s *Sleeper) Begin() (end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.askers++
	if s.isAsleep {
		s.isAsleep = false
		s.asked <- struct{}{}
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.askers--
		s.askedAt = time.Now()
	}
}

// Handler notes each request for next, but for the paths that programs ask for all the time.
func (s *Sleeper) Handler(next http.Handler, unnoted ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !slices.Contains(unnoted, r.URL.Path) {
			defer s.Begin()()
		}
		next.ServeHTTP(w, r)
	})
}

// Run runs the loops, which end with their context, again and again until ctx ends.
func (s *Sleeper) Run(ctx context.Context, loops func(context.Context) error) error {
	for {
		if err := s.stayAwake(ctx, loops); err != nil || ctx.Err() != nil {
			return err
		}
		// Something may have come while they ended.
		dueAt, isFree := s.find(ctx)
		if isFree && s.fallAsleep() {
			s.sleep(ctx, dueAt)
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

// stayAwake runs the loops until ctx ends, one of them fails, or there is time to sleep.
func (s *Sleeper) stayAwake(ctx context.Context, loops func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	var looking sync.WaitGroup
	defer looking.Wait()
	defer cancel()
	if s.after > 0 {
		looking.Go(func() {
			defer cancel()
			s.awaitSleep(ctx)
		})
	}
	return loops(ctx)
}

// awaitSleep returns when nobody has asked for a while and nothing is due soon, or when ctx ends.
func (s *Sleeper) awaitSleep(ctx context.Context) {
	for {
		left := s.untilIdle()
		if left <= 0 {
			if _, isFree := s.find(ctx); isFree {
				return
			}
			left = min(s.after, askAfter)
		}
		if !retry.Wait(ctx, nil, left) {
			return
		}
	}
}

// untilIdle is the time after which nobody will have asked for long enough, if nobody does.
func (s *Sleeper) untilIdle() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.askers > 0 {
		return s.after
	}
	return time.Until(s.askedAt.Add(s.after))
}

// find returns when something is due, the zero time for never, and whether there is time to sleep until then.
func (s *Sleeper) find(ctx context.Context) (dueAt time.Time, isFree bool) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	var seconds sql.Null[float64]
	err := s.pools[0].QueryRowContext(ctx, "select tinydevcrm._find_next_work($1)", s.subscription).Scan(&seconds)
	wasFailing := s.isFailing.Swap(err != nil)
	if err != nil {
		if !wasFailing && ctx.Err() == nil {
			s.logger.Warn("cannot find what is due; staying awake", "error", err)
		}
		return time.Time{}, false
	}
	if !seconds.Valid {
		return time.Time{}, true
	}
	in := time.Duration(seconds.V * float64(time.Second))
	// Without the monotonic clock, which stands still while the machine is suspended.
	return time.Now().Add(in).Round(0), in > s.after+wakeEarly
}

// fallAsleep returns false when somebody asks.
func (s *Sleeper) fallAsleep() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.isAsleep = s.askers == 0
	return s.isAsleep
}

// sleep closes all connections, and returns shortly before something is due, or when somebody asks.
func (s *Sleeper) sleep(ctx context.Context, dueAt time.Time) {
	for _, pool := range s.pools {
		db.CloseIdle(pool)
	}
	due := "never"
	if !dueAt.IsZero() {
		due = dueAt.Format(time.RFC3339)
	}
	s.logger.Info("asleep, without connections to the database", "due", due)
	for ctx.Err() == nil && s.IsAsleep() {
		left := compareAfter
		if !dueAt.IsZero() {
			left = min(left, time.Until(dueAt)-wakeEarly)
		}
		if left <= 0 {
			break
		}
		retry.Wait(ctx, s.asked, left)
	}
	s.wake(dueAt)
}

// wake notes that the loops run, for what is due as if somebody asked for it then.
func (s *Sleeper) wake(dueAt time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wasAsked := !s.isAsleep
	s.isAsleep = false
	s.askedAt = time.Now()
	if !wasAsked && s.askedAt.Before(dueAt) {
		s.askedAt = dueAt
	}
	select {
	case <-s.asked:
	default:
	}
	s.logger.Info("awake", "was_asked", wasAsked)
}
