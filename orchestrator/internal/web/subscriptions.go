package web

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

const (
	// shownSubscriptions is how many subscriptions the list shows, shownDeliveries how many deliveries of the
	// chosen one.
	shownSubscriptions = 50
	shownDeliveries    = 10
)

// A subscription is a row of tinydevcrm.subscription_status.
type subscription struct {
	Name, Matview, URL string
	Status, LastError  string
	PauseReason        string
	Pending, Parked    int64
	IsPaused           bool
	IsTroubled         bool
	Deliveries         []delivery
}

// A delivery is a row of tinydevcrm.latest_deliveries().
type delivery struct {
	ID, EventID       int64
	Matview, Outcome  string
	Status, LastError string
	Attempts          int
	MaxAttempts       int
	CreatedAt         time.Time
	NextAttemptAt     sql.NullTime
}

type subscriptionForm struct{ Name, Matview, URL string }

// fillSubscriptions reads the user's own subscriptions, those in trouble first, and the deliveries of the
// chosen one.
func (s *server) fillSubscriptions(ctx context.Context, shown *page) error {
	rows, err := s.pool(ctx).QueryContext(ctx, `
		select subscription,
		       coalesce(matview::text, ''),
		       coalesce(url, ''),
		       status,
		       coalesce(last_error, ''),
		       pending_count,
		       parked_count,
		       coalesce(pause_reason, ''),
		       status in ('paused', 'switched off'),
		       is_troubled
		  from tinydevcrm.subscription_status
		 where owner = quote_ident(current_user)::regrole
		 order by subscription = $1 desc, is_troubled desc, subscription
		 limit $2`, shown.Chosen.Get("subscription"), shownSubscriptions+1)
	if err != nil {
		return fmt.Errorf("list the subscriptions: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var next subscription
		if err := rows.Scan(&next.Name, &next.Matview, &next.URL, &next.Status, &next.LastError,
			&next.Pending, &next.Parked, &next.PauseReason, &next.IsPaused, &next.IsTroubled); err != nil {
			return fmt.Errorf("list the subscriptions: %w", err)
		}
		shown.Subscriptions = append(shown.Subscriptions, next)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("list the subscriptions: %w", err)
	}

	asked := shown.Chosen.Get("subscription")
	if asked != "" && (len(shown.Subscriptions) == 0 || shown.Subscriptions[0].Name != asked) {
		shown.setProblem(stepNotify, db.Problem{
			Status:  http.StatusNotFound,
			Message: fmt.Sprintf("there is no subscription %s of yours", asked),
			Hint:    "Choose one of the list, or create it.",
		})
	}
	shown.HasMore.Subscriptions = len(shown.Subscriptions) > shownSubscriptions
	shown.Subscriptions = shown.Subscriptions[:min(len(shown.Subscriptions), shownSubscriptions)]
	if len(shown.Subscriptions) == 0 {
		return nil
	}
	shown.Subscription = &shown.Subscriptions[0]
	return s.readDeliveries(ctx, shown.Subscription)
}

func (s *server) readDeliveries(ctx context.Context, of *subscription) error {
	rows, err := s.pool(ctx).QueryContext(ctx, `
		select delivery_id,
		       event_id,
		       matview,
		       outcome,
		       status,
		       coalesce(last_error, ''),
		       attempts,
		       max_attempts,
		       created_at,
		       next_attempt_at
		  from tinydevcrm.latest_deliveries($1, $2)`, of.Name, shownDeliveries)
	if err != nil {
		return fmt.Errorf("read the deliveries of %q: %w", of.Name, err)
	}
	defer rows.Close()
	for rows.Next() {
		var next delivery
		if err := rows.Scan(&next.ID, &next.EventID, &next.Matview, &next.Outcome, &next.Status, &next.LastError,
			&next.Attempts, &next.MaxAttempts, &next.CreatedAt, &next.NextAttemptAt); err != nil {
			return fmt.Errorf("read the deliveries of %q: %w", of.Name, err)
		}
		of.Deliveries = append(of.Deliveries, next)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read the deliveries of %q: %w", of.Name, err)
	}
	return nil
}

// createSubscription creates a subscription, or a webhook when there is a URL. The secret of a webhook is shown
// once.
func (s *server) createSubscription(w http.ResponseWriter, r *http.Request) {
	s.run(w, r, action{
		step:     stepNotify,
		required: []string{"new_subscription"},
		query: `
			select case
			           when coalesce($3, '') = '' then json_build_object(
			               'subscription', $1::text,
			               'id', tinydevcrm.create_subscription($1, nullif($2, '')::regclass))
			           else json_build_object(
			               'subscription', $1::text,
			               'secret', tinydevcrm.create_webhook($1, $3, nullif($2, '')::regclass))
			       end`,
		fields: []string{"new_subscription", "new_matview", "url"},
		named:  "new_matview",
		status: http.StatusCreated,
		done:   "subscribe",
		says:   "create a subscription",
	})
}

// ofSubscription is an action on an existing subscription.
func ofSubscription(done, says, call string) action {
	return action{
		step:     stepNotify,
		required: []string{"subscription"},
		query: `
			select json_build_object('subscription', $1::text)
			  from ` + call,
		fields: []string{"subscription"},
		status: http.StatusOK,
		done:   done,
		says:   says,
	}
}

func (s *server) pauseSubscription(w http.ResponseWriter, r *http.Request) {
	s.run(w, r, ofSubscription("pause-subscription", "pause a subscription",
		"tinydevcrm.pause_subscription($1)"))
}

func (s *server) resumeSubscription(w http.ResponseWriter, r *http.Request) {
	s.run(w, r, ofSubscription("resume-subscription", "resume a subscription",
		"tinydevcrm.resume_subscription($1)"))
}

func (s *server) dropSubscription(w http.ResponseWriter, r *http.Request) {
	s.run(w, r, ofSubscription("drop-subscription", "drop a subscription",
		"tinydevcrm.drop_subscription($1)"))
}

func (s *server) redeliverParked(w http.ResponseWriter, r *http.Request) {
	redelivering := ofSubscription("redeliver-parked", "redeliver what is parked", "")
	redelivering.query = `
			select json_build_object('subscription', $1::text, 'count', redelivered)
			  from tinydevcrm.redeliver_parked($1) as redelivered`
	s.run(w, r, redelivering)
}

func (s *server) redeliverEvent(w http.ResponseWriter, r *http.Request) {
	s.run(w, r, action{
		step:     stepNotify,
		required: []string{"delivery"},
		query: `
			select json_build_object('delivery', $1::bigint)
			  from tinydevcrm.redeliver_event($1)`,
		fields: []string{"delivery"},
		status: http.StatusOK,
		done:   "redeliver",
		says:   "redeliver an event",
	})
}

func (s *server) listSubscriptions(w http.ResponseWriter, r *http.Request) {
	s.writeQuery(w, r, `
		select coalesce(json_agg(row_to_json(subscription_status) order by subscription), '[]')
		  from tinydevcrm.subscription_status
		 where tinydevcrm._may_see(owner)`)
}
