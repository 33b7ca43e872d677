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
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/webhook"
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

// A PostFunc makes one attempt at a webhook, as webhook.Client.Send does. An error that is no Refusal says
// nothing of the endpoint: the delivery is received again when its time is over.
type PostFunc func(context.Context, webhook.Endpoint, webhook.Message) error

// Webhooks posts what the subscriptions with a URL have pending.
type Webhooks struct {
	pool   *sql.DB
	post   PostFunc
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

// NewWebhooks returns Webhooks that make each attempt by post.
func NewWebhooks(pool *sql.DB, post PostFunc, logger *slog.Logger) *Webhooks {
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

func (e *endpoint) fields() []any { return []any{&e.subscriptionID, &e.name, &e.owner} }

// serveDue begins to serve the endpoints that have something due and are not served already.
func (w *Webhooks) serveDue(ctx, posting context.Context) error {
	due, err := db.Collect(ctx, w.pool, "look for webhooks", (*endpoint).fields,
		"select subscription_id, name, owner::bigint from tinydevcrm._list_due_webhooks()")
	if err != nil {
		return err
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
		for _, p := range posts {
			group.Go(func() error {
				defer w.carry(e.owner, -len(p.message.Body))
				return w.attempt(posting, e, p)
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

// A post is a delivery on its way to an endpoint.
type post struct {
	deliveryID int64
	to         webhook.Endpoint
	message    webhook.Message
}

func (p *post) fields() []any {
	return []any{&p.deliveryID, &p.message.ID, &p.message.Body, &p.to.URL, pq.Array(&p.to.Secrets)}
}

// receive takes deliveries; none while the owner has their share of bytes under way. A message that is too
// long comes without its body.
func (w *Webhooks) receive(ctx context.Context, e endpoint) ([]post, error) {
	w.receiving <- struct{}{}
	defer func() { <-w.receiving }()
	if !w.hasRoom(e.owner) {
		return nil, nil
	}
	posts, err := db.Collect(ctx, w.pool, "receive deliveries", (*post).fields, `
		select delivery_id, message_id, case when octet_length(body::text) <= $4 then body end, url, secrets
		  from tinydevcrm._receive_posts($1, $2, make_interval(secs => $3))`,
		e.subscriptionID, perEndpoint, postTimeout.Seconds(), maxBody)
	if err != nil {
		return nil, err
	}
	for _, p := range posts {
		w.carry(e.owner, len(p.message.Body))
	}
	return posts, nil
}

// attempt posts one delivery and records how it went. What follows of a refusal is decided in SQL.
func (w *Webhooks) attempt(ctx context.Context, e endpoint, p post) error {
	err := error(&webhook.Refusal{Reason: fmt.Sprintf("the message is longer than %d bytes", maxBody)})
	if p.message.Body != nil {
		err = w.post(ctx, p.to, p.message)
	}
	var refusal *webhook.Refusal
	switch {
	case err == nil:
		return w.record(ctx, "acknowledge a delivery",
			"select tinydevcrm.acknowledge_events(array[$1::bigint])", p.deliveryID)
	case !errors.As(err, &refusal):
		return err
	}
	w.logger.Warn("webhook refused", "subscription", e.name, "message_id", p.message.ID, "reason", refusal.Reason)
	return w.record(ctx, "record a refusal",
		"select tinydevcrm._refuse_post($1, $2, nullif($3, 0), $4, make_interval(secs => $5))",
		e.subscriptionID, p.deliveryID, refusal.Status, refusal.Reason, refusal.RetryAfter.Seconds())
}

// record runs a statement until it goes through: a database that is away for a moment is no reason to post
// again. It gives up when the delivery's time is over, or the program ends.
func (w *Webhooks) record(ctx context.Context, what, statement string, args ...any) error {
	pauses := retry.NewPauses(pollAfter)
	for end := time.Now().Add(postTimeout); ; {
		// What has been posted is recorded even while the program ends.
		attempt, cancel := context.WithTimeout(context.WithoutCancel(ctx), acknowledgeWithin)
		_, err := w.pool.ExecContext(attempt, statement, args...)
		cancel()
		if err == nil {
			return nil
		}
		if time.Now().After(end) || !pauses.Wait(ctx) {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
}
