package listen

import (
	"maps"
	"slices"
	"time"

	"golang.org/x/time/rate"
)

const (
	// apart is the time between batches once several have come in quick succession. Everyone who can log in
	// can notify, and each batch makes every page and the webhooks query the database once.
	apart      = 50 * time.Millisecond
	closeByNow = 20
)

// A batch gathers notifications, each id once, until they are due: at once when there are few, together when
// there are many. The last notification is never left out.
type batch struct {
	ids     map[int64]struct{}
	limiter *rate.Limiter
	due     <-chan time.Time
}

func (b *batch) add(id int64) {
	if b.limiter == nil {
		b.limiter = rate.NewLimiter(rate.Every(apart), closeByNow)
	}
	if b.due == nil {
		b.ids = make(map[int64]struct{})
		b.due = time.After(b.limiter.Reserve().Delay())
	}
	if len(b.ids) >= backlog {
		clear(b.ids)
		id = Missed
	}
	b.ids[id] = struct{}{}
}

// isDue returns a channel that fires when the batch is to be taken; nil while there is nothing.
func (b *batch) isDue() <-chan time.Time { return b.due }

func (b *batch) take() []int64 {
	b.due = nil
	return slices.Sorted(maps.Keys(b.ids))
}
