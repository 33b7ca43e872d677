package deliver

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/lib/pq"
	"golang.org/x/sync/errgroup"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/retry"
)

const (
	// perEndpoint requests to one endpoint are under way at once.
	perEndpoint = 4
	// maxEndpoints are served at once, shared among their owners; one that hangs takes no more than its own
	// place.
	maxEndpoints = 512
	// maxBody bounds a message, and maxBytes all those that are under way, shared as well.
	maxBody      = 2 << 20
	maxBytes     = 128 << 20
	maxReceiving = 2
	// lookAfter is how often deliveries are looked for whose pause is over.
	lookAfter = 5 * time.Second
	// postTimeout is longer than a post takes, so that nobody else takes up the delivery meanwhile.
	postTimeout = time.Minute
	// forgetAfter is longer than one that rests and is due waits to be tried again.
	forgetAfter = time.Minute
	// drainWithin is how long posts under way may take once the program is told to end.
	drainWithin = 4 * time.Second
)

// A Post is one attempt at a webhook. Each of the secrets signs it.
type Post struct {
	URL     string
	Secrets []string
	// ID stays the same however often a delivery is posted.
	ID   string
	Body []byte
}

// A Refusal is the error of a post that the endpoint did not take.
type Refusal struct {
	Reason     string
	RetryAfter time.Duration
	// IsGone says that the endpoint wants no more.
	IsGone bool
}

func (r *Refusal) Error() string { return r.Reason }

// Webhooks posts what the subscriptions with a URL have pending.
type Webhooks struct {
	pool   *sql.DB
	post   func(context.Context, Post) error
	logger *slog.Logger

	endpoints sync.WaitGroup
	// ended wakes Run when an endpoint has been served: what came meanwhile is still there.
	ended chan int64
	mu    sync.Mutex
	busy  map[int64]struct{}
	// places are those of busy endpoints, bytes those of messages under way.
	places, bytes shares
	// receiving are as many as receive messages at once, which by then are not counted.
	receiving chan struct{}
	// resting are endpoints that could not be served, or had nothing after all.
	resting map[int64]*rest

	pulse pulse
}

// A rest is the time until an endpoint is tried again.
type rest struct {
	pauses retry.Pauses
	until  time.Time
}

// IsAlive says whether webhooks with something due have been looked for lately.
func (w *Webhooks) IsAlive() bool { return w.pulse.isAlive() }

// NewWebhooks returns Webhooks that make each attempt by post. An error that is no Refusal says
// nothing of the endpoint: the delivery is received again when its time is over.
func NewWebhooks(pool *sql.DB, post func(context.Context, Post) error, logger *slog.Logger) *Webhooks {
	return &Webhooks{
		pool:      pool,
		post:      post,
		logger:    logger,
		ended:     make(chan int64, 1),
		busy:      make(map[int64]struct{}),
		places:    newShares(maxEndpoints),
		bytes:     newShares(maxBytes),
		receiving: make(chan struct{}, maxReceiving),
		resting:   make(map[int64]*rest),
	}
}

// Run posts until ctx ends, and then waits for what is under way, but not for long.
func (w *Webhooks) Run(ctx context.Context, wake <-chan int64) error {
	posting, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(drainWithin, cancel) })
	defer stop()
	// Before stop, which would keep cancel from being called where the end of ctx is seen here first.
	defer w.endpoints.Wait()

	pauses := retry.NewPauses(pollAfter)
	isAway := false
	for {
		err := w.serveDue(ctx, posting)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			w.pulse.beat()
			isAway = false
			pauses.Reset()
			if !waitFor(ctx, wake, w.ended, lookAfter) {
				return nil
			}
			continue
		}
		w.pulse.stop()
		if !isAway {
			w.logger.Warn("cannot look for webhooks; trying again", "error", err)
		}
		isAway = true
		if !pauses.Wait(ctx) {
			return nil
		}
	}
}

type endpoint struct {
	subscriptionID, owner int64
	name                  string
}

// serveDue begins to serve the endpoints that have something due and are not served already.
func (w *Webhooks) serveDue(ctx, posting context.Context) error {
	due, err := w.findDue(ctx)
	if err != nil {
		return fmt.Errorf("look for webhooks: %w", err)
	}
	for _, e := range due {
		if !w.take(e) {
			continue
		}
		w.endpoints.Go(func() {
			hasServed, err := w.serve(ctx, posting, e)
			if err != nil && ctx.Err() == nil {
				w.logger.Warn("cannot serve a webhook; trying again", "subscription", e.name, "error", err)
			}
			w.release(e, hasServed && err == nil)
		})
	}
	return nil
}

// findDue gives the endpoints that have something due, by turns one of each owner.
func (w *Webhooks) findDue(ctx context.Context) ([]endpoint, error) {
	rows, err := w.pool.QueryContext(ctx, `
		select due.subscription_id,
		       due.name,
		       subscriptions.owner::oid::bigint
		  from tinydevcrm._due_webhooks() as due
		  join tinydevcrm.subscriptions
		    on subscriptions.id = due.subscription_id
		 order by row_number() over (partition by subscriptions.owner order by random())`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var due []endpoint
	for rows.Next() {
		var e endpoint
		if err := rows.Scan(&e.subscriptionID, &e.name, &e.owner); err != nil {
			return nil, err
		}
		due = append(due, e)
	}
	return due, rows.Err()
}

// take makes an endpoint one that is served, unless it is, rests, or its owner has their share of places.
func (w *Webhooks) take(e endpoint) bool {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	// Those that have been due no more for so long need no rest, or are there no more.
	maps.DeleteFunc(w.resting, func(_ int64, r *rest) bool { return now.Sub(r.until) > forgetAfter })
	if r := w.resting[e.subscriptionID]; r != nil && now.Before(r.until) {
		return false
	}
	if _, isBusy := w.busy[e.subscriptionID]; isBusy || !w.places.hasRoom(e.owner) {
		return false
	}
	w.busy[e.subscriptionID] = struct{}{}
	w.places.add(e.owner, 1)
	return true
}

// release ends the serving of an endpoint. One with which it came to nothing is still due: it rests, and
// wakes nobody, or it would be served again at once, and so on without end.
func (w *Webhooks) release(e endpoint, hasServed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	id := e.subscriptionID
	delete(w.busy, id)
	w.places.add(e.owner, -1)
	if !hasServed {
		if w.resting[id] == nil {
			w.resting[id] = &rest{pauses: retry.NewPauses(pollAfter)}
		}
		w.resting[id].until = time.Now().Add(w.resting[id].pauses.NextBackOff())
		return
	}
	delete(w.resting, id)
	select {
	case w.ended <- id:
	default:
	}
}

// serve posts what an endpoint has due, until there is nothing left, and says whether there was anything.
func (w *Webhooks) serve(ctx, posting context.Context, e endpoint) (hasServed bool, err error) {
	for ctx.Err() == nil {
		posts, err := w.receive(ctx, e)
		if err != nil || len(posts) == 0 {
			return hasServed, err
		}
		hasServed = true
		var group errgroup.Group
		for deliveryID, post := range posts {
			group.Go(func() error {
				defer w.carry(e.owner, -len(post.Body))
				return w.attempt(posting, e, deliveryID, post)
			})
		}
		if err := group.Wait(); err != nil {
			return hasServed, err
		}
	}
	return hasServed, nil
}

func (w *Webhooks) hasRoom(owner int64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.bytes.hasRoom(owner)
}

func (w *Webhooks) carry(owner int64, bytes int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.bytes.add(owner, bytes)
}

// receive takes deliveries by their numbers; none while the owner has their share of bytes under way. A message
// that is too long comes without its body.
func (w *Webhooks) receive(ctx context.Context, e endpoint) (map[int64]Post, error) {
	w.receiving <- struct{}{}
	defer func() { <-w.receiving }()
	if !w.hasRoom(e.owner) {
		return nil, nil
	}
	rows, err := w.pool.QueryContext(ctx, `
		select delivery_id, message_id, case when octet_length(body::text) <= $4 then body end, url, secrets
		  from tinydevcrm._receive_posts($1, $2, make_interval(secs => $3))`,
		e.subscriptionID, perEndpoint, postTimeout.Seconds(), maxBody)
	if err != nil {
		return nil, fmt.Errorf("receive deliveries: %w", err)
	}
	defer rows.Close()
	posts := make(map[int64]Post)
	for rows.Next() {
		var deliveryID int64
		var post Post
		if err := rows.Scan(&deliveryID, &post.ID, &post.Body, &post.URL, pq.Array(&post.Secrets)); err != nil {
			return nil, fmt.Errorf("read a delivery: %w", err)
		}
		posts[deliveryID] = post
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("receive deliveries: %w", err)
	}
	for _, post := range posts {
		w.carry(e.owner, len(post.Body))
	}
	return posts, nil
}

// attempt posts one delivery and says how it went.
func (w *Webhooks) attempt(ctx context.Context, e endpoint, deliveryID int64, post Post) error {
	err := error(&Refusal{Reason: fmt.Sprintf("the message is longer than %d bytes", maxBody)})
	if post.Body != nil {
		err = w.post(ctx, post)
	}
	var refusal *Refusal
	switch {
	case err == nil:
		return w.tell(ctx, "acknowledge a delivery", "select tinydevcrm.acknowledge_events(array[$1::bigint])", deliveryID)
	case !errors.As(err, &refusal):
		return err
	}
	w.logger.Warn("webhook refused", "subscription", e.name, "message_id", post.ID, "reason", refusal.Reason)
	if refusal.IsGone {
		if err := w.tell(ctx, "switch a webhook off", "select tinydevcrm._switch_off_webhook($1, $2)",
			e.subscriptionID, refusal.Reason); err != nil {
			return err
		}
	}
	if refusal.RetryAfter > 0 {
		if err := w.tell(ctx, "leave a webhook alone", "select tinydevcrm._rest_webhook($1, make_interval(secs => $2))",
			e.subscriptionID, refusal.RetryAfter.Seconds()); err != nil {
			return err
		}
	}
	return w.tell(ctx, "reject a delivery", "select tinydevcrm.reject_event($1, $2, make_interval(secs => $3))",
		deliveryID, refusal.Reason, refusal.RetryAfter.Seconds())
}

// tell runs a statement until it goes through: a database that is away for a moment is no reason to post
// again. It gives up when the delivery's time is over, or the program ends.
func (w *Webhooks) tell(ctx context.Context, what, statement string, args ...any) error {
	pauses := retry.NewPauses(pollAfter)
	for end := time.Now().Add(postTimeout); ; {
		// What has been posted is worth telling even while the program ends.
		attempt, cancel := context.WithTimeout(context.WithoutCancel(ctx), acknowledgeWithin)
		_, err := w.pool.ExecContext(attempt, statement, args...)
		cancel()
		if err == nil || db.Explain(err).Code == "TD001" {
			// TD001: dropped or redelivered by hand meanwhile.
			return nil
		}
		if time.Now().After(end) || !pauses.Wait(ctx) {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
}
