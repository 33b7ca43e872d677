package kit

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/client"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

// Slots bound how many of one kind of work run at once.
type Slots struct {
	what     string
	taken    chan struct{}
	patience time.Duration
}

// NewSlots returns that many slots. patience is how long a request waits for one.
func NewSlots(what string, count int, patience time.Duration) *Slots {
	return &Slots{what: what, taken: make(chan struct{}, count), patience: patience}
}

// Take waits for a turn, as long as its patience lasts. release passes the turn on after the work.
func (s *Slots) Take(ctx context.Context) (release func(), err error) {
	timer := time.NewTimer(s.patience)
	defer timer.Stop()
	select {
	case s.taken <- struct{}{}:
		return func() { <-s.taken }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-timer.C:
		return nil, &db.UserError{
			Status:  http.StatusServiceUnavailable,
			Message: fmt.Sprintf("%d %s are running, which is the limit", cap(s.taken), s.what),
			Hint:    "Try again later.",
		}
	}
}

// ClientSlots bound the work of each client, or of each user.
type ClientSlots struct {
	what     string
	count    int
	patience time.Duration
	mu       sync.Mutex
	byClient map[string]*clientSlot
}

type clientSlot struct {
	*Slots
	users int
}

// NewClientSlots returns that many slots for each client.
func NewClientSlots(what string, count int, patience time.Duration) *ClientSlots {
	return &ClientSlots{what: what, count: count, patience: patience}
}

// Take waits for a turn of the client with this name.
func (c *ClientSlots) Take(ctx context.Context, name string) (release func(), err error) {
	c.mu.Lock()
	if c.byClient == nil {
		c.byClient = make(map[string]*clientSlot)
	}
	found := c.byClient[name]
	if found == nil {
		found = &clientSlot{Slots: NewSlots(c.what, c.count, c.patience)}
		c.byClient[name] = found
	}
	found.users++
	c.mu.Unlock()

	leave := func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if found.users--; found.users == 0 {
			delete(c.byClient, name)
		}
	}
	give, err := found.Slots.Take(ctx)
	if err != nil {
		leave()
		return nil, err
	}
	return func() { give(); leave() }, nil
}

// TakeTransfer waits for a turn to upload or download. A user has one turn. Without log-ins, one client can use
// all turns but one.
func (s *Site) TakeTransfer(r *http.Request) (release func(), err error) {
	session := s.Session(r.Context())
	if session.User != "" {
		return session.transfers.Take(r.Context())
	}
	leave, err := s.clients.Take(r.Context(), client.Of(r.RemoteAddr))
	if err != nil {
		return nil, err
	}
	give, err := session.transfers.Take(r.Context())
	if err != nil {
		leave()
		return nil, err
	}
	return func() { give(); leave() }, nil
}

// TakeAction waits for a turn to run a query of the user.
func (s *Site) TakeAction(r *http.Request) (release func(), err error) {
	return s.Session(r.Context()).actions.Take(r.Context())
}
