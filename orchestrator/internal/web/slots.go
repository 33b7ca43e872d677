package web

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

// slots bound how many of a kind of work run at once.
type slots struct {
	what  string
	taken chan struct{}
}

func newSlots(what string, count int) slots {
	return slots{what: what, taken: make(chan struct{}, count)}
}

// take waits for a turn, for as long as patience. The work done, release gives it to the next.
func (s slots) take(ctx context.Context) (release func(), err error) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case s.taken <- struct{}{}:
		return func() { <-s.taken }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-timer.C:
		return nil, &db.UserError{
			Status:  http.StatusServiceUnavailable,
			Message: fmt.Sprintf("%d %s are under way, as many as run at once", cap(s.taken), s.what),
			Hint:    "Try again in a while.",
		}
	}
}
