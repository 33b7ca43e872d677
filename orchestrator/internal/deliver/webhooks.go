package deliver

import (
	"context"
	"database/sql"
	"log/slog"
	"maps"
	"net/http"
	"sync"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/retry"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/webhook"
)

const (
	// firstRun is how many deliveries of one view are received at once at first. Each run is twice as long as the last,
	// up to longestRun, as long as the endpoint accepts them and one takes no longer than runWithin. After a refusal it
	// begins with one.
	firstRun   = 8
	longestRun = 256
	runWithin  = 2 * time.Second
	// gatherRunsWithin is how long the end of a run waits for others.
	gatherRunsWithin = 5 * time.Millisecond
	// gatherAllWithin is how long it waits for all others where nothing more was due.
	gatherAllWithin = 100 * time.Millisecond
	// maxEndpoints is how many endpoints are served at once, shared among their owners. One that hangs takes
	// no more than its own place.
	maxEndpoints = 512
	// maxBody bounds a message, maxReceived those that are received at once, and maxBytes all messages that are
	// in progress; owners share these too.
	maxBody      = 2 << 20
	maxReceived  = 4 << 20
	maxBytes     = 128 << 20
	maxReceiving = 2
	// statusTooLong is what an endpoint would answer to a message that is too long.
	statusTooLong = http.StatusRequestEntityTooLarge
	// lookAfter is how often we look for deliveries whose retry is due.
	lookAfter = 5 * time.Second
	// postTimeout is when another program may receive a delivery. It is longer than a post takes that starts
	// within startWithin, which bounds how long posts go on after a pause of the subscription.
	postTimeout = time.Minute
	startWithin = 10 * time.Second
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
	// ended wakes Run when an endpoint has been served, and others or what is due for it have waited for that.
	ended chan int64
	mu    sync.Mutex
	// busy are the endpoints that are being served. A signal says that more is due.
	busy map[int64]chan struct{}
	// places are the shares of endpoints that are being served, bytes those of messages in progress.
	places, bytes shares
	// isCrowded is whether an endpoint was due for which there was no place, or for whose messages there was none.
	isCrowded bool
	// further are the shares of posts that run besides the first one of each endpoint.
	further shares
	// demands are the endpoints that wait to receive. receiving is by how many statements they do that at once, at most
	// maxReceiving: messages are counted in bytes only after that.
	demands   []*demand
	receiving int
	answers   answers
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
		busy:       make(map[int64]chan struct{}),
		places:     newShares(maxEndpoints),
		bytes:      newShares(maxBytes),
		further:    newShares(maxFurther),
		answers:    answers{more: make(chan struct{}, 1)},
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
	// hasRefused is whether it has refused lately.
	hasRefused bool
}

func (e *endpoint) fields() []any { return []any{&e.subscriptionID, &e.name, &e.owner, &e.hasRefused} }

// serveDue starts to serve the endpoints that have something due and are not being served.
func (w *Webhooks) serveDue(ctx, posting context.Context) error {
	due, err := db.Collect(ctx, w.pool, "look for webhooks", (*endpoint).fields,
		"select subscription_id, name, owner::bigint, has_refused from tinydevcrm._list_due_webhooks()")
	if err != nil {
		return err
	}
	for _, e := range due {
		more := w.take(e)
		if more == nil {
			continue
		}
		w.endpoints.Go(func() {
			hasServed, err := newService(w, e, ctx, posting).run(more)
			if err != nil && ctx.Err() == nil {
				w.logger.Warn("cannot serve a webhook; trying again", "subscription", e.name, "error", err)
			}
			w.release(e, hasServed && err == nil)
		})
	}
	return nil
}

// take marks an endpoint as served, and returns where it learns that more is due: nil for one that is being served
// or waits, and for one whose owner has used their share of the places.
func (w *Webhooks) take(e endpoint) chan struct{} {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	// An endpoint that has not been due for so long needs no pause, or no longer exists.
	maps.DeleteFunc(w.backingOff, func(_ int64, b *backoff) bool { return now.Sub(b.until) > forgetAfter })
	if b := w.backingOff[e.subscriptionID]; b != nil && now.Before(b.until) {
		return nil
	}
	if more, isBusy := w.busy[e.subscriptionID]; isBusy {
		select {
		case more <- struct{}{}:
		default:
		}
		return nil
	}
	if !w.places.hasRoom(e.owner) {
		w.isCrowded = true
		return nil
	}
	more := make(chan struct{}, 1)
	w.busy[e.subscriptionID] = more
	w.places.add(e.owner, 1)
	return more
}

// release ends the serving of an endpoint. When nothing was served, the endpoint is still due: it waits for a
// pause and does not wake Run, which would serve it again at once, over and over.
func (w *Webhooks) release(e endpoint, hasServed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	id := e.subscriptionID
	isAwaited := w.isCrowded || len(w.busy[id]) > 0
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
	if !isAwaited {
		return
	}
	w.isCrowded = false
	select {
	case w.ended <- id:
	default:
	}
}

// takeFurther takes a place of a post besides the first one of an endpoint, if the owner has any left.
func (w *Webhooks) takeFurther(owner int64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.further.hasRoom(owner) {
		return false
	}
	w.further.add(owner, 1)
	return true
}

func (w *Webhooks) giveFurther(owner int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.further.add(owner, -1)
}

func (w *Webhooks) carry(owner int64, bytes int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.bytes.add(owner, bytes)
}
