package deliver

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/lib/pq"
	"golang.org/x/sync/errgroup"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/retry"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/webhook"
)

// A service is the serving of one endpoint, from the time that something is due until nothing is left.
type service struct {
	*Webhooks
	endpoint
	// ctx ends when no further post starts, posting when those that run are cut off.
	ctx, posting context.Context

	flow *flow
	// held counts the deliveries of the runs that were received and are not recorded yet. More are held than posted, so
	// that no post waits for the database. The end of each run sends a signal.
	held      atomic.Int64
	ended     chan struct{}
	runLength atomic.Int64
	// isAlone is whether it receives by a statement of its own. Webhooks.mu guards it.
	isAlone bool
	// stoppedAt is when the endpoint was not to get anything more: what was received before is not posted.
	stoppedAt atomic.Pointer[time.Time]
	// delivered counts what was accepted since the endpoint is back; isBack says that it was down.
	delivered atomic.Int64
	isBack    atomic.Bool
}

func newService(w *Webhooks, e endpoint, ctx, posting context.Context) *service {
	s := &service{
		Webhooks: w,
		endpoint: e,
		ctx:      ctx,
		posting:  posting,
		flow:     newFlow(func() bool { return w.takeFurther(e.owner) }, func() { w.giveFurther(e.owner) }, e.hasRefused),
		ended:    make(chan struct{}, 1),
	}
	s.runLength.Store(firstRun)
	return s
}

// run posts until nothing is left, and reports whether there was anything.
func (s *service) run(more <-chan struct{}) (hasServed bool, err error) {
	var group errgroup.Group
	defer func() {
		err = errors.Join(err, group.Wait())
		if s.isBack.Load() {
			s.logger.Info("webhook backlog is delivered", "subscription", s.name, "delivered", s.delivered.Load())
		}
	}()
	for s.ctx.Err() == nil {
		// What ends meanwhile may leave more that is due.
		wasIdle := s.held.Load() == 0
		runs, hasAll, err := s.receiveRuns()
		if err != nil {
			return hasServed, err
		}
		hasServed = hasServed || len(runs) > 0
		received := time.Now()
		for _, run := range runs {
			s.held.Add(int64(len(run)))
			group.Go(func() error {
				defer s.leave(len(run))
				return s.postRun(run, received)
			})
		}
		if len(runs) == 0 && wasIdle {
			return hasServed, nil
		}
		s.awaitRoom(more, hasAll)
	}
	return hasServed, nil
}

func (s *service) leave(count int) {
	s.held.Add(int64(-count))
	select {
	case s.ended <- struct{}{}:
	default:
	}
}

// awaitRoom waits until a run has ended, for a short time also for the others where all that was due has been received, or
// until more is due and there is room for it. Runs that end together are followed by those of one statement.
func (s *service) awaitRoom(more <-chan struct{}, hasAll bool) {
	before := s.held.Load()
	if room, _ := s.flow.room(); before >= room {
		more = nil
	}
	// More may be due behind a run that has ended: it does not wait for a slow one of another view.
	var late <-chan time.Time
	for waits := true; waits; waits = hasAll && s.held.Load() > 0 {
		select {
		case <-s.ended:
			if late == nil {
				late = time.After(gatherAllWithin)
			}
		case <-late:
			hasAll = false
		case <-more:
			hasAll = false
		case <-s.ctx.Done():
			return
		}
	}
	others := time.NewTimer(gatherRunsWithin)
	defer others.Stop()
	for s.held.Load() > before/2 {
		select {
		case <-s.ended:
		case <-others.C:
			return
		}
	}
}

// receiveRuns receives runs, each the next deliveries of one view in order: none while the owner has used their share of
// the bytes, or while as many as possible are held. It reports whether these are fewer than could be received.
func (s *service) receiveRuns() (runs [][]post, hasAll bool, err error) {
	length := s.runLength.Load()
	room, most := s.flow.room()
	free := room - s.held.Load()
	if free <= 0 {
		return nil, false, nil
	}
	most = min(length, most)
	posts, err := s.receive(s, free, most)
	if err != nil {
		return nil, false, err
	}
	s.runLength.CompareAndSwap(length, min(2*length, longestRun))
	places := make(map[int64]int)
	for _, p := range posts {
		place, isKnown := places[p.matviewID]
		if !isKnown {
			place = len(runs)
			places[p.matviewID] = place
			runs = append(runs, nil)
		}
		runs[place] = append(runs[place], p)
	}
	isFull := func(run []post) bool { return int64(len(run)) == most }
	hasAll = 0 < len(posts) && int64(len(posts)) < free && !slices.ContainsFunc(runs, isFull)
	return runs, hasAll, nil
}

// postRun posts the deliveries of a view one after another. At the first that fails, or when it is too late to start
// another one, it gives the rest back untouched.
func (s *service) postRun(run []post, received time.Time) error {
	bytes := 0
	for _, p := range run {
		bytes += len(p.message.Body)
	}
	defer s.carry(s.owner, -bytes)

	var accepted recording
	s.flow.enter()
	posted, failure := s.postEach(run, received, &accepted)
	s.flow.leave()
	err := accepted.wait()

	rest := run[posted:]
	var refusal *webhook.Refusal
	switch {
	case err != nil:
		return err
	case errors.As(failure, &refusal):
		s.runLength.Store(1)
		if err := s.refuse(rest[0], refusal); err != nil {
			return err
		}
		failure, rest = nil, rest[1:]
	case failure != nil:
		// Nothing is known about this one: it follows after its visibility timeout.
		rest = rest[1:]
	}
	return errors.Join(failure, s.giveBack(rest))
}

// postEach returns how many posts were accepted, and why the next one was not.
func (s *service) postEach(run []post, received time.Time, accepted *recording) (posted int, failure error) {
	began := time.Now()
	for _, p := range run {
		isCut := p.message.Body == nil && !p.isTooLong
		if isCut || !s.mayPost(received) {
			break
		}
		if time.Since(received) > startWithin {
			s.runLength.Store(max(1, int64(posted)))
			break
		}
		if failure = s.attempt(p); failure != nil {
			break
		}
		s.accept(s, p.deliveryID, accepted)
		posted++
	}
	if time.Since(began) > runWithin {
		s.runLength.Store(max(1, int64(posted/2)))
	}
	return posted, failure
}

// mayPost reports whether what was received then may still be posted.
func (s *service) mayPost(received time.Time) bool {
	stoppedAt := s.stoppedAt.Load()
	return s.ctx.Err() == nil && (stoppedAt == nil || received.After(*stoppedAt))
}

func (s *service) attempt(p post) error {
	if p.isTooLong {
		return &webhook.Refusal{
			Status: statusTooLong,
			Reason: fmt.Sprintf("the message is longer than %d bytes", maxBody),
		}
	}
	p.to.Owner = s.owner
	began := time.Now()
	failure := s.post(s.posting, p.to, p.message)
	s.flow.note(failure, began)
	return failure
}

// stop keeps what has been received until now from being posted.
func (s *service) stop() {
	now := time.Now()
	s.stoppedAt.Store(&now)
}

// comeBack notes that the endpoint was down until now.
func (s *service) comeBack(downSince time.Time, waiting int64) {
	s.isBack.Store(true)
	s.logger.Info("webhook endpoint is back; what waits for it is delivered now", "subscription", s.name,
		"down_since", downSince, "pending", waiting)
}

// refuse records the refusal of a post. SQL decides what follows from it.
func (s *service) refuse(p post, refusal *webhook.Refusal) error {
	s.logger.Debug("webhook refused", "subscription", s.name, "message_id", p.message.ID, "reason", refusal.Reason)
	if refusal.Status == http.StatusGone || refusal.RetryAfter > 0 {
		s.stop() // also while that is being recorded
	}
	var stopped sql.Null[string]
	if err := s.record("record a refusal", func(ctx context.Context) error {
		return s.pool.QueryRowContext(ctx,
			"select tinydevcrm._refuse_post($1, $2, nullif($3, 0), $4, make_interval(secs => $5), make_interval(secs => $6), $7, $8)",
			s.subscriptionID, p.deliveryID, refusal.Status, refusal.Reason, refusal.RetryAfter.Seconds(), p.early,
			pq.Array(strings.Fields(refusal.SentTo)), refusal.IsFinal).Scan(&stopped)
	}); err != nil {
		return err
	}
	if stopped.Valid {
		s.stop()
	}
	switch stopped.V {
	case "down":
		s.logger.Warn("webhook endpoint is down; one delivery at a time probes it", "subscription", s.name,
			"reason", refusal.Reason)
	case "gone":
		s.logger.Warn("webhook is switched off: its endpoint is gone", "subscription", s.name, "reason", refusal.Reason)
	}
	return nil
}

func (s *service) giveBack(rest []post) error {
	if len(rest) == 0 {
		return nil
	}
	ids := make([]int64, len(rest))
	for i, p := range rest {
		ids[i] = p.deliveryID
	}
	return s.record("give deliveries back", func(ctx context.Context) error {
		_, err := s.pool.ExecContext(ctx, "select tinydevcrm._release_posts($1)", pq.Array(ids))
		return err
	})
}

// record repeats a statement until it succeeds: that the database is away for a moment, or that the owner has locked
// the delivery, is no reason to post again. It holds no connection while it pauses. It stops when the delivery's
// visibility timeout is over, or the program ends.
func (s *service) record(what string, do func(context.Context) error) error {
	pauses := retry.NewPauses(pollAfter)
	for end := time.Now().Add(postTimeout); ; {
		// What has been posted is recorded even while the program ends.
		attempt, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), acknowledgeWithin)
		err := do(attempt)
		cancel()
		if err == nil || errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if time.Now().After(end) || !pauses.Wait(s.posting) {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
}
