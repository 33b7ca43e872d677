package web

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/client"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

// slots bound how many of one kind of work run at once.
type slots struct {
	what     string
	taken    chan struct{}
	patience time.Duration
}

func newSlots(what string, count int) slots {
	return slots{what: what, taken: make(chan struct{}, count), patience: patience}
}

// take waits for a turn, as long as its patience lasts. release passes the turn on after the work.
func (s slots) take(ctx context.Context) (release func(), err error) {
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

// clientSlots bound the work of each client, or of each user.
type clientSlots struct {
	what     string
	count    int
	patience time.Duration
	mu       sync.Mutex
	byClient map[string]*clientSlot
}

type clientSlot struct {
	slots
	users int
}

func (c *clientSlots) take(ctx context.Context, name string) (release func(), err error) {
	c.mu.Lock()
	if c.byClient == nil {
		c.byClient = make(map[string]*clientSlot)
	}
	found := c.byClient[name]
	if found == nil {
		found = &clientSlot{slots: newSlots(c.what, c.count)}
		found.patience = c.patience
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
	give, err := found.slots.take(ctx)
	if err != nil {
		leave()
		return nil, err
	}
	return func() { give(); leave() }, nil
}

// takeTransfer waits for a turn to upload or download. A user has one turn. Without log-ins, one client can use
// all turns but one.
func (s *server) takeTransfer(r *http.Request) (release func(), err error) {
	session := s.session(r.Context())
	if session.user != "" {
		return session.transfers.take(r.Context())
	}
	leave, err := s.clients.take(r.Context(), client.Of(r.RemoteAddr))
	if err != nil {
		return nil, err
	}
	give, err := session.transfers.take(r.Context())
	if err != nil {
		leave()
		return nil, err
	}
	return func() { give(); leave() }, nil
}
