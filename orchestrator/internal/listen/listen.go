// Package listen holds the program's one LISTEN connection and wakes those who wait for events.
package listen

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/retry"
)

// Channel carries the ids of events that are notified.
const Channel = "matview_refresh_channel"

// changed is the payload that says that a watched table has changed.
const changed = "changed"

// Missed replaces ids that may have been lost: after reconnecting, or when a subscriber was too slow to take
// each one. The row is the record: query the events.
const Missed int64 = 0

const (
	reconnectWithin = 5 * time.Second
	pingAfter       = 30 * time.Second
	// answerWithin is how long a ping may remain unanswered.
	answerWithin = 5 * time.Second
	backlog      = 1024
)

// A Hub passes notifications on to any number of subscribers.
type Hub struct {
	access db.Access
	logger *slog.Logger

	mu          sync.Mutex
	isListening bool
	hasListened bool
	reconnects  int64
	hasEnded    bool
	// subscribers are the channels, each with whether it is prompt.
	subscribers map[chan int64]bool
	// changes gets a signal when a watched table has changed, or may have.
	changes chan struct{}
	// probe is the payload that is awaited, and arrived is closed when it arrives.
	probe   string
	arrived chan struct{}
	isDeaf  bool
	// hasHeard is whether the last probe has arrived. reconnect ends the connection, for another one.
	hasHeard  bool
	reconnect context.CancelFunc
}

// NewHub returns a Hub for a database. Run starts it.
func NewHub(access db.Access, logger *slog.Logger) *Hub {
	return &Hub{access: access, logger: logger, subscribers: make(map[chan int64]bool), changes: make(chan struct{}, 1)}
}

// Run listens until ctx ends, and then closes the Hub.
func (h *Hub) Run(ctx context.Context) error {
	defer h.Close()
	return h.Listen(ctx)
}

// Listen listens until ctx ends, and reconnects whenever the connection is lost. It may be called again.
func (h *Hub) Listen(ctx context.Context) error {
	defer h.rest()
	p := &pace{pauses: retry.NewPauses(reconnectWithin)}
	for ctx.Err() == nil {
		url, err := h.access.DSN(ctx)
		if err != nil {
			h.logEvent(pq.ListenerEventConnectionAttemptFailed, err)
		} else if err := h.listen(ctx, url, p); err != nil {
			return err
		}
		p.wait(ctx)
	}
	return nil
}

// listen listens until ctx ends, until reconnect is called, or until the connection is lost for which a password was
// found. The next one needs a password of its own, and lib/pq would use this one again.
func (h *Hub) listen(ctx context.Context, url string, p *pace) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	h.setReconnect(cancel)
	closed := make(chan struct{})
	lose := func() { cancel(); <-closed }
	if h.access.Password == nil {
		lose = func() {}
	}
	// lib/pq's ping waits for its answer without a limit. So the connection may be silent only a little longer
	// than the interval between pings.
	listener := pq.NewDialListener(db.Dialer{Silence: pingAfter + answerWithin}, url, 0, 0, h.paced(ctx, p, lose))
	stop := context.AfterFunc(ctx, func() { listener.Close(); close(closed) })
	defer func() {
		if stop() {
			listener.Close()
		}
	}()

	if err := listener.Listen(Channel); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("listen on %q: %w", Channel, err)
	}
	h.setListening(true)
	// Subscribers that drained earlier may have missed events of the meantime.
	h.publishPromptly(Missed)
	h.publish(Missed)
	h.signalChange()

	silence := time.NewTimer(pingAfter)
	defer silence.Stop()
	var gathered batch
	for {
		select {
		case <-ctx.Done():
			return nil
		case notification, open := <-listener.Notify:
			if !open {
				return nil
			}
			if id, isOurs := h.read(notification); isOurs {
				h.publishPromptly(id)
				gathered.add(id)
			}
		case <-gathered.isDue():
			h.publish(gathered.take()...)
		case <-silence.C:
			// On a connection that died silently the ping fails, and lib/pq opens a new one.
			if err := listener.Ping(); err != nil {
				h.logger.Debug("ping the listening connection", "error", err)
			}
		}
		silence.Reset(pingAfter)
	}
}

// A pace makes pauses between connections. lib/pq's own pauses start over with each connection, even one that is lost at
// once, and do not end with a context. lib/pq calls it beside the loop of the Hub.
type pace struct {
	mu          sync.Mutex
	pauses      retry.Pauses
	connectedAt time.Time
}

// connected notes that a connection begins.
func (p *pace) connected() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.connectedAt = time.Now()
}

// disconnected starts over after a connection that has lasted.
func (p *pace) disconnected() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.connectedAt) > reconnectWithin {
		p.pauses.Reset()
	}
}

// wait waits for the next pause, or until ctx ends.
func (p *pace) wait(ctx context.Context) {
	p.mu.Lock()
	pause := p.pauses.NextBackOff()
	p.mu.Unlock()
	retry.Wait(ctx, nil, pause)
}

// paced is logEvent, and makes lib/pq pause before it reconnects, unless lose ends that.
func (h *Hub) paced(ctx context.Context, p *pace, lose func()) pq.EventCallbackType {
	return func(event pq.ListenerEventType, err error) {
		h.logEvent(event, err)
		switch event {
		case pq.ListenerEventConnected, pq.ListenerEventReconnected:
			p.connected()
			return
		case pq.ListenerEventDisconnected:
			p.disconnected()
		}
		lose()
		if ctx.Err() == nil {
			p.wait(ctx)
		}
	}
}

// rest notes that nothing listens, on purpose.
func (h *Hub) rest() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.isListening = false
	h.hasListened = false
}

// Close closes the channels of all subscribers, for good.
func (h *Hub) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hasEnded = true
	for subscriber := range h.subscribers {
		close(subscriber)
	}
	clear(h.subscribers)
}

// Subscribe returns a channel of event ids, or Missed, and a function that ends the subscription.
func (h *Hub) Subscribe() (ids <-chan int64, cancel func()) { return h.subscribe(false) }

// SubscribePromptly is Subscribe for who bounds how often wake-ups in vain cost something: each notification comes at once,
// however many there are.
func (h *Hub) SubscribePromptly() (ids <-chan int64, cancel func()) { return h.subscribe(true) }

func (h *Hub) subscribe(isPrompt bool) (ids <-chan int64, cancel func()) {
	subscriber := make(chan int64, backlog)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.hasEnded {
		close(subscriber)
	} else {
		h.subscribers[subscriber] = isPrompt
	}
	return subscriber, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.subscribers, subscriber)
	}
}

// Changes returns the channel that gets a signal when a watched table has changed. Several that are pending count as
// one. There is one receiver.
func (h *Hub) Changes() <-chan struct{} { return h.changes }

func (h *Hub) signalChange() {
	select {
	case h.changes <- struct{}{}:
	default:
	}
}

// publish never blocks: a subscriber whose backlog is full finds Missed in it instead.
func (h *Hub) publish(ids ...int64) { h.offerAll(false, ids...) }

func (h *Hub) publishPromptly(ids ...int64) { h.offerAll(true, ids...) }

func (h *Hub) offerAll(promptly bool, ids ...int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for subscriber, isPrompt := range h.subscribers {
		if isPrompt != promptly {
			continue
		}
		for _, id := range ids {
			offer(subscriber, id)
		}
	}
}

func offer(subscriber chan int64, id int64) {
	select {
	case subscriber <- id:
		return
	default:
	}
	for len(subscriber) > 0 {
		select {
		case <-subscriber:
		default:
		}
	}
	subscriber <- Missed
}

// read returns the id that a notification carries. Everything else on the channel is for others, but for our own
// probe. lib/pq sends nil after it has reconnected.
func (h *Hub) read(notification *pq.Notification) (id int64, isOurs bool) {
	if notification == nil {
		h.signalChange()
		return Missed, true
	}
	if notification.Extra == changed {
		h.signalChange()
		return 0, false
	}
	id, err := strconv.ParseInt(notification.Extra, 10, 64)
	if err != nil || id < 0 {
		h.hear(notification.Extra)
		return 0, false
	}
	return id, true
}

// A State is that of the listening connection.
type State struct {
	// IsListening is whether it is up. One that died silently counts as up until the next ping.
	IsListening bool
	// IsDeaf is whether notifications do not arrive although it is up.
	IsDeaf bool
	// Reconnects is how often it was lost and restored.
	Reconnects int64
}

// State returns the state of the listening connection.
func (h *Hub) State() State {
	h.mu.Lock()
	defer h.mu.Unlock()
	return State{IsListening: h.isListening, IsDeaf: h.isDeaf, Reconnects: h.reconnects}
}

func (h *Hub) setReconnect(cancel context.CancelFunc) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reconnect = cancel
}

func (h *Hub) setListening(isListening bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.isListening = isListening
}

// isFirst reports whether there has been no connection before.
func (h *Hub) isFirst() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	wasFirst := !h.hasListened
	h.hasListened = true
	return wasFirst
}

func (h *Hub) countReconnect() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.isListening = true
	h.reconnects++
}

func (h *Hub) logEvent(event pq.ListenerEventType, err error) {
	switch event {
	case pq.ListenerEventConnected:
		if h.isFirst() {
			h.logger.Info("listening", "channel", Channel)
			return
		}
		h.logEvent(pq.ListenerEventReconnected, nil)
	case pq.ListenerEventDisconnected:
		h.setListening(false)
		if err != nil {
			h.logger.Warn("lost the listening connection", "error", err)
		}
	case pq.ListenerEventReconnected:
		h.countReconnect()
		h.logger.Info("listening again", "channel", Channel)
	case pq.ListenerEventConnectionAttemptFailed:
		h.logger.Debug("the database does not answer yet", "error", err)
	}
}
