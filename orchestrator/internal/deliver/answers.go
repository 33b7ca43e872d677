package deliver

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/retry"
)

const (
	// gatherWithin is how long accepted posts of all endpoints are gathered that are recorded by one statement, and
	// maxRecorded how many that are at most.
	gatherWithin = 3 * time.Millisecond
	maxRecorded  = 1000
)

// errLocked means that the owner of a delivery has locked it.
var errLocked = errors.New("its owner has locked the delivery")

// An answer is an accepted post that is to be recorded.
type answer struct {
	service    *service
	deliveryID int64
	run        *recording
	// isAlone is whether a statement records only those of its endpoint, because one of several has failed.
	isAlone bool
	// until is when the visibility timeout of the delivery is over, and next when the next attempt is due.
	until, next time.Time
	pauses      retry.Pauses
}

// A recording is the answers of one run.
type recording struct {
	pending sync.WaitGroup
	mu      sync.Mutex
	err     error
}

// wait waits until all are recorded, and returns why one cannot be.
func (r *recording) wait() error {
	r.pending.Wait()
	return r.err
}

func (r *recording) end(err error) {
	if err != nil {
		r.mu.Lock()
		r.err = errors.Join(r.err, err)
		r.mu.Unlock()
	}
	r.pending.Done()
}

// answers are the accepted posts that are to be recorded, of all endpoints.
type answers struct {
	mu        sync.Mutex
	waiting   []*answer
	isRunning bool
	// more wakes the loop that records when there is another answer.
	more chan struct{}
}

// accept has an accepted post recorded, and does not wait for that.
func (w *Webhooks) accept(s *service, deliveryID int64, run *recording) {
	run.pending.Add(1)
	now := time.Now()
	a := &answer{service: s, deliveryID: deliveryID, run: run, until: now.Add(postTimeout), next: now}
	w.answers.mu.Lock()
	defer w.answers.mu.Unlock()
	w.answers.waiting = append(w.answers.waiting, a)
	if !w.answers.isRunning {
		w.answers.isRunning = true
		// The endpoint waits for its answers, so Run still waits for the endpoints.
		w.endpoints.Go(func() { w.recordAll(s.posting) })
	}
	select {
	case w.answers.more <- struct{}{}:
	default:
	}
}

// recordAll records what was accepted until nothing is left. It begins another statement for what has come during the
// last one. After ctx has ended it tries each once more.
func (w *Webhooks) recordAll(ctx context.Context) {
	for {
		time.Sleep(gatherWithin)
		batch, pause, isDone := w.answers.nextBatch(time.Now(), ctx.Err() != nil)
		if isDone {
			return
		}
		if len(batch) == 0 {
			retry.Wait(ctx, w.answers.more, pause)
			continue
		}
		w.recordBatch(ctx, batch)
	}
}

// nextBatch takes the answers that the next statement records: those that are due, or all. When none is, it returns how
// long to wait. It is done when there is nothing to wait for.
func (a *answers) nextBatch(now time.Time, all bool) (batch []*answer, pause time.Duration, isDone bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.waiting) == 0 {
		a.isRunning = false
		return nil, 0, true
	}
	pause = pollAfter
	kept := a.waiting[:0]
	for _, next := range a.waiting {
		wait := next.next.Sub(now)
		switch {
		case wait > 0 && !all:
			pause = min(pause, wait)
			kept = append(kept, next)
		case len(batch) == maxRecorded, len(batch) > 0 && !batch[0].fits(next):
			pause = 0
			kept = append(kept, next)
		default:
			batch = append(batch, next)
		}
	}
	clear(a.waiting[len(kept):])
	a.waiting = kept
	return batch, pause, false
}

// fits reports whether one statement may record both.
func (a *answer) fits(other *answer) bool {
	return a.isAlone == other.isAlone && (!a.isAlone || a.service == other.service)
}

// A back says that an endpoint that was down has accepted a post, or that a delivery is locked.
type back struct {
	subscriptionID int64
	deliveryID     sql.Null[int64]
	downSince      sql.Null[time.Time]
	waiting        sql.Null[int64]
}

func (b *back) fields() []any {
	return []any{&b.subscriptionID, &b.deliveryID, &b.downSince, &b.waiting}
}

const acceptPosts = "select subscription_id, delivery_id, down_since, waiting_count from tinydevcrm._accept_posts($1, $2)"

// recordBatch records answers by one statement. Those that it cannot record are tried again: that the database is away for
// a moment, or that the owner has locked the delivery, is no reason to post again.
func (w *Webhooks) recordBatch(ctx context.Context, batch []*answer) {
	subscriptions, ids := make([]int64, 0, len(batch)), make([]int64, 0, len(batch))
	services := make(map[int64]*service)
	for _, a := range batch {
		id := a.service.subscriptionID
		if services[id] == nil {
			services[id] = a.service
			subscriptions = append(subscriptions, id)
		}
		ids = append(ids, a.deliveryID)
	}
	// What has been posted is recorded even while the program ends.
	attempt, cancel := context.WithTimeout(context.WithoutCancel(ctx), acknowledgeWithin)
	rows, err := db.Collect(attempt, w.pool, "acknowledge deliveries", (*back).fields, acceptPosts,
		pq.Array(subscriptions), pq.Array(ids))
	cancel()

	locked := make(map[int64]bool)
	for _, row := range rows {
		if row.deliveryID.Valid {
			locked[row.deliveryID.V] = true
		} else if s := services[row.subscriptionID]; s != nil {
			s.comeBack(row.downSince.V, row.waiting.V)
		}
	}
	for _, a := range batch {
		switch {
		case err != nil:
			w.tryAgain(ctx, a, err, len(services) > 1)
		case locked[a.deliveryID]:
			w.tryAgain(ctx, a, fmt.Errorf("acknowledge deliveries: %w", errLocked), false)
		default:
			a.service.delivered.Add(1)
			a.run.end(nil)
		}
	}
}

// tryAgain has an answer recorded after a pause, unless its visibility timeout is over or the program ends.
func (w *Webhooks) tryAgain(ctx context.Context, a *answer, why error, ofSeveral bool) {
	now := time.Now()
	if now.After(a.until) || ctx.Err() != nil {
		a.run.end(why)
		return
	}
	if a.pauses.ExponentialBackOff == nil {
		a.pauses = retry.NewPauses(pollAfter)
	}
	// A refusal of the server may be about one of them; otherwise the database is away.
	var refusal *pq.Error
	a.isAlone = a.isAlone || ofSeveral && errors.As(why, &refusal)
	a.next = now.Add(a.pauses.NextBackOff())
	w.answers.mu.Lock()
	defer w.answers.mu.Unlock()
	w.answers.waiting = append(w.answers.waiting, a)
}
