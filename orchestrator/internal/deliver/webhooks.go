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
	// perEndpoint is how many requests to one endpoint run at once.
	perEndpoint = 4
	// maxEndpoints is how many endpoints are served at once, shared among their owners. One that hangs takes
	// no more than its own place.
	maxEndpoints = 512
	// maxBody bounds a message, and maxBytes all messages that are in progress; owners share these too.
	maxBody      = 2 << 20
	maxBytes     = 128 << 20
	maxReceiving = 2
	// lookAfter is how often we look for deliveries whose retry is due.
	lookAfter = 5 * time.Second
	// postTimeout is longer than a post takes, so that no other program receives the delivery meanwhile.
	postTimeout = time.Minute
	// forgetAfter is longer than the time from the end of a pause to the next attempt.
	forgetAfter = time.Minute
	// drainWithin is how long running posts may take once the program ends.
	drainWithin = 4 * time.Second
)

// A PostFunc makes one attempt at a webhook, as webhook.Client.Send does. An error that is not a Refusal says
// nothing about the endpoint: the delivery is received again after its visibility timeout.
type PostFunc func(context.Context, webhook.Endpoint, webhook.Message) error

// Webhooks posts the pending deliveries of the subscriptions that have a URL.
type Webhooks struct {
	pool   *sql.DB
	post   PostFunc
	logger *slog.Logger

	endpoints sync.WaitGroup
	// ended wakes Run when an endpoint has been served: more may be due by then.
	ended chan int64
	mu    sync.Mutex
	busy  map[int64]struct{}
	// places are the shares of endpoints that are being served, bytes those of messages in progress.
	places, bytes shares
	// receiving bounds how many receive messages at once. Messages are counted in bytes only after that.
	receiving chan struct{}
	// backingOff are endpoints that wait before they are served again: serving them failed, or they had nothing
	// due after all.
	backingOff map[int64]*backoff

	pulse pulse
}

// A backoff is the time until an endpoint is served again.
type backoff struct {
	pauses retry.Pauses
	until  time.Time
}

// IsAlive reports whether we have recently looked for webhooks with due deliveries.
func (w *Webhooks) IsAlive() bool { return w.pulse.isAlive() }

// NewWebhooks returns Webhooks that call post for each attempt.
func NewWebhooks(pool *sql.DB, post PostFunc, logger *slog.Logger) *Webhooks {
	return &Webhooks{
		pool:       pool,
		post:       post,
		logger:     logger,
		ended:      make(chan int64, 1),
		busy:       make(map[int64]struct{}),
		places:     newShares(maxEndpoints),
		bytes:      newShares(maxBytes),
		receiving:  make(chan struct{}, maxReceiving),
		backingOff: make(map[int64]*backoff),
	}
}

// Run posts until ctx ends, and then waits a short time for running posts.
func (w *Webhooks) Run(ctx context.Context, wake <-chan int64) error {
	posting, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(drainWithin, cancel) })
	defer stop()
	// Wait must run before stop, which prevents the call of cancel if the end of ctx is noticed here first.
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

// serveDue starts to serve the endpoints that have something due and are not being served.
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

// take marks an endpoint as served. It refuses one that is being served or waits, and one whose owner has used
// their share of the places.
func (w *Webhooks) take(e endpoint) bool {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	// An endpoint that has not been due for so long needs no pause, or no longer exists.
	maps.DeleteFunc(w.backingOff, func(_ int64, b *backoff) bool { return now.Sub(b.until) > forgetAfter })
	if b := w.backingOff[e.subscriptionID]; b != nil && now.Before(b.until) {
		return false
	}
	if _, isBusy := w.busy[e.subscriptionID]; isBusy || !w.places.hasRoom(e.owner) {
		return false
	}
	w.busy[e.subscriptionID] = struct{}{}
	w.places.add(e.owner, 1)
	return true
}

// release ends the serving of an endpoint. When nothing was served, the endpoint is still due: it waits for a
// pause and does not wake Run, which would serve it again at once, over and over.
func (w *Webhooks) release(e endpoint, hasServed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	id := e.subscriptionID
	delete(w.busy, id)
	w.places.add(e.owner, -1)
	if !hasServed {
		if w.backingOff[id] == nil {
			w.backingOff[id] = &backoff{pauses: retry.NewPauses(pollAfter)}
		}
		w.backingOff[id].until = time.Now().Add(w.backingOff[id].pauses.NextBackOff())
		return
	}
	delete(w.backingOff, id)
	select {
	case w.ended <- id:
	default:
	}
}

// serve posts what an endpoint has due until nothing is left, and reports whether there was anything.
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

// A post is a delivery that is being posted to an endpoint.
type post struct {
	deliveryID int64
	to         webhook.Endpoint
	message    webhook.Message
}

func (p *post) fields() []any {
	return []any{&p.deliveryID, &p.message.ID, &p.message.Body, &p.to.URL, pq.Array(&p.to.Secrets)}
}

// receive receives deliveries; none while the owner has used their share of the bytes. A message that is too
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

// attempt posts one delivery and records the outcome. SQL decides what follows from a refusal.
func (w *Webhooks) attempt(ctx context.Context, e endpoint, p post) error {
	err := error(&webhook.Refusal{Reason: fmt.Sprintf("the message is longer than %d bytes", maxBody)})
	if p.message.Body != nil {
		err = w.post(ctx, p.to, p.message)
	}
	var refusal *webhook.Refusal
	switch {
	case err == nil:
		return w.record(ctx, "acknowledge a delivery",
			"select tinydevcrm._accept_post($1)", p.deliveryID)
	case !errors.As(err, &refusal):
		return err
	}
	w.logger.Warn("webhook refused", "subscription", e.name, "message_id", p.message.ID, "reason", refusal.Reason)
	return w.record(ctx, "record a refusal",
		"select tinydevcrm._refuse_post($1, $2, nullif($3, 0), $4, make_interval(secs => $5))",
		e.subscriptionID, p.deliveryID, refusal.Status, refusal.Reason, refusal.RetryAfter.Seconds())
}

// record repeats a statement until it succeeds: that the database is away for a moment, or that the owner has locked
// the delivery, is no reason to post again. It holds no connection while it pauses. It stops when the delivery's visibility timeout is over, or the program ends.
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
