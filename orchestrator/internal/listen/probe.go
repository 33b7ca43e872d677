package listen

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"time"
)

const (
	probePrefix = "probe:"
	// probeAfter is the time between probes while they arrive, pollAfter while they do not.
	probeAfter = time.Minute
	pollAfter  = 10 * time.Second
	// sendWithin bounds how long a probe may take to be sent, and arriveWithin how long it then travels.
	sendWithin   = 5 * time.Second
	arriveWithin = 5 * time.Second
	// listenAfter is the time between two looks whether the connection is up.
	listenAfter = time.Second
)

// Probe sends a notification to the Hub now and then, until ctx ends. A connection through a pooler in transaction
// mode looks as if it listened, and nothing arrives. While that is so, Probe wakes the subscribers every ten seconds.
// The result is in State and, for check_installation(), in the database.
//
// The connection may also have stayed with a server that is the primary no more. The pool has then left that server, which
// refuses to record the result: the next probe does not arrive, though the last one has, and the Hub connects again.
func (h *Hub) Probe(ctx context.Context, pool *sql.DB) error {
	for {
		pause := listenAfter
		if h.State().IsListening {
			hasArrived, err := h.sendProbe(ctx, pool)
			switch {
			case ctx.Err() != nil:
				return nil
			case err == nil && !hasArrived && h.connectAgain():
			case err != nil:
				// Nothing is known. The loops that deliver report a database that does not answer.
				h.logger.Debug("probe the listening connection", "error", err)
				pause = pollAfter
			default:
				pause = h.conclude(ctx, pool, hasArrived)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// sendProbe sends a probe, and reports whether it arrives.
func (h *Hub) sendProbe(ctx context.Context, pool *sql.DB) (hasArrived bool, err error) {
	payload, arrived := probePrefix+rand.Text(), make(chan struct{})
	h.mu.Lock()
	h.probe, h.arrived = payload, arrived
	h.mu.Unlock()

	sending, cancel := context.WithTimeout(ctx, sendWithin)
	defer cancel()
	if _, err := pool.ExecContext(sending, "select pg_notify($1, $2)", Channel, payload); err != nil {
		return false, fmt.Errorf("send a probe: %w", err)
	}
	select {
	case <-arrived:
		return true, nil
	case <-ctx.Done():
		return false, ctx.Err()
	case <-time.After(arriveWithin):
		return false, nil
	}
}

// hear notes that a probe has arrived, if it is the one that is awaited.
func (h *Hub) hear(payload string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if payload == h.probe && h.arrived != nil {
		close(h.arrived)
		h.arrived = nil
		h.hasHeard = true
	}
}

// conclude reports and records the result of a probe, and returns the time until the next one.
func (h *Hub) conclude(ctx context.Context, pool *sql.DB, hasArrived bool) (pause time.Duration) {
	pause = probeAfter
	h.mu.Lock()
	// A connection that was lost meanwhile is logged as that.
	isDeaf := !hasArrived && h.isListening
	hasChanged := h.isDeaf != isDeaf
	h.isDeaf = isDeaf
	h.mu.Unlock()
	switch {
	case hasChanged && isDeaf:
		h.logger.Warn("notifications do not arrive; looking for events instead", "every", pollAfter.String(),
			"hint", "A pooler in transaction mode loses LISTEN. Connect to Postgres directly, or in session mode.")
	case hasChanged:
		h.logger.Info("notifications arrive again")
	}
	recording, cancel := context.WithTimeout(ctx, sendWithin)
	defer cancel()
	if _, err := pool.ExecContext(recording, "select tinydevcrm._record_listener($1)", isDeaf); err != nil {
		h.logger.Debug("record whether notifications arrive", "error", err)
		pause = pollAfter
	}
	if isDeaf {
		h.publish(Missed)
		pause = pollAfter
	}
	return pause
}

// connectAgain has the Hub connect again when the last probe has arrived, and reports whether it does.
func (h *Hub) connectAgain() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.hasHeard || !h.isListening {
		return false
	}
	h.hasHeard, h.isListening = false, false
	h.logger.Warn("notifications arrive no more; connecting again")
	h.reconnect()
	return true
}
