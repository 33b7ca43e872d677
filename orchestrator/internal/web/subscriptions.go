package web

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"strings"
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
	// Format is empty for a worker.
	Format            string
	Status, LastError string
	PauseReason       string
	Pending, Parked   int64
	IsPaused          bool
	IsTroubled        bool
	MutedUntil        sql.NullTime
	NextAttemptAt     sql.NullTime
	// Title and Message are its templates; empty for the default ones.
	Title, Message string
	Deliveries     []delivery
}

func (s *subscription) fields() []any {
	return []any{&s.Name, &s.Matview, &s.URL, &s.Format, &s.Status, &s.LastError, &s.Pending, &s.Parked, &s.PauseReason,
		&s.IsPaused, &s.IsTroubled, &s.MutedUntil, &s.NextAttemptAt, &s.Title, &s.Message}
}

// HasSecretURL reports whether URL is one that tinydevcrm._show_url() has shortened.
func (s subscription) HasSecretURL() bool { return strings.Contains(s.URL, "/…") }

// A delivery is a row of tinydevcrm.latest_deliveries().
type delivery struct {
	ID, EventID int64
	// CarriedBy is the event whose delivery carries this one; 0 for none.
	CarriedBy         int64
	Matview, Outcome  string
	Status, LastError string
	Attempts          int
	MaxAttempts       int
	CreatedAt         time.Time
	NextAttemptAt     sql.NullTime
}

func (d *delivery) fields() []any {
	return []any{&d.ID, &d.EventID, &d.CarriedBy, &d.Matview, &d.Outcome, &d.Status, &d.LastError, &d.Attempts, &d.MaxAttempts,
		&d.CreatedAt, &d.NextAttemptAt}
}

// A subscriptionForm has no headers: they may be secrets, and are not sent back.
type subscriptionForm struct {
	Name, Matview, URL, Format, Rules string
	NumbersAsText, EachRow            bool
}

// A webhookFormat is a row of tinydevcrm.webhook_formats.
type webhookFormat struct{ Name, Description string }

func (f *webhookFormat) fields() []any { return []any{&f.Name, &f.Description} }

// fillSubscriptions reads the user's own subscriptions, those in trouble first, and the deliveries of the
// chosen one.
func (s *server) fillSubscriptions(ctx context.Context, shown *page) error {
	asked := shown.Chosen.Get("subscription")
	var err error
	shown.Formats, err = db.Collect(ctx, s.pool(ctx), "list the formats", (*webhookFormat).fields,
		"select name, description from tinydevcrm.webhook_formats where name <> 'email' order by rank")
	if err != nil {
		return err
	}
	shown.Subscriptions, err = db.Collect(ctx, s.pool(ctx), "list the subscriptions", (*subscription).fields, `
		select subscription, coalesce(matview::text, dropped_matview, ''), coalesce(url, ''), coalesce(format, ''), status, coalesce(last_error, ''),
		       pending_count, parked_count, coalesce(pause_reason, ''), is_paused, is_troubled, muted_until,
		       case when next_attempt_at > now() then next_attempt_at end, coalesce(title, ''), coalesce(message, '')
		  from tinydevcrm.subscription_status
		 where owner = quote_ident(current_user)::regrole
		 order by subscription = $1 desc, is_troubled desc, subscription
		 limit $2`, asked, shownSubscriptions+1)
	if err != nil {
		return err
	}
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
	if typed := shown.Typed; typed != nil && typed.Subscription == shown.Subscription.Name {
		shown.Subscription.Title, shown.Subscription.Message = typed.Title, typed.Message
	}
	return s.readDeliveries(ctx, shown.Subscription)
}

func (s *server) readDeliveries(ctx context.Context, of *subscription) error {
	var err error
	of.Deliveries, err = db.Collect(ctx, s.pool(ctx), fmt.Sprintf("read the deliveries of %q", of.Name), (*delivery).fields, `
		select delivery_id, event_id, coalesce(carried_by, 0), matview, outcome, status, coalesce(last_error, ''), attempts, max_attempts,
		       created_at, next_attempt_at
		  from tinydevcrm.latest_deliveries($1, $2)`, of.Name, shownDeliveries)
	return err
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
			               'id', tinydevcrm.create_subscription(
			                   $1, nullif($2, '')::regclass, numbers_as_text => $4,
			                   notify_when => nullif($7, ''), each_row => $8))
			           else json_build_object(
			               'subscription', $1::text,
			               'secret', tinydevcrm.create_webhook(
			                   $1, $3, nullif($2, '')::regclass, numbers_as_text => $4,
			                   format => nullif($5, ''), headers => tinydevcrm._parse_headers($6),
			                   notify_when => nullif($7, ''), each_row => $8))
			       end`,
		fields: []string{"new_subscription", "new_matview", "url", "numbers_as_text", "format", "headers", "rules", "each_row"},
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

// alterWebhook changes URL, format and headers of a webhook: what is empty stays.
func (s *server) alterWebhook(w http.ResponseWriter, r *http.Request) {
	altering := ofSubscription("alter-webhook", "change a webhook",
		"tinydevcrm.alter_webhook($1, nullif($2, ''), nullif($3, ''), tinydevcrm._parse_headers($4))")
	altering.fields = []string{"subscription", "new_url", "format", "headers"}
	s.run(w, r, altering)
}

func (s *server) pauseSubscription(w http.ResponseWriter, r *http.Request) {
	s.run(w, r, ofSubscription("pause-subscription", "pause a subscription",
		"tinydevcrm.pause_subscription($1)"))
}

func (s *server) resumeSubscription(w http.ResponseWriter, r *http.Request) {
	s.run(w, r, ofSubscription("resume-subscription", "resume a subscription",
		"tinydevcrm.resume_subscription($1)"))
}

func (s *server) muteSubscription(w http.ResponseWriter, r *http.Request) {
	muting := ofSubscription("mute-subscription", "mute a subscription",
		"tinydevcrm.mute_subscription($1, now() + $2::interval)")
	muting.required = append(muting.required, "mute_for")
	muting.fields = append(muting.fields, "mute_for")
	s.run(w, r, muting)
}

func (s *server) unmuteSubscription(w http.ResponseWriter, r *http.Request) {
	s.run(w, r, ofSubscription("unmute-subscription", "end the mute of a subscription",
		"tinydevcrm.unmute_subscription($1)"))
}

func (s *server) retrySubscription(w http.ResponseWriter, r *http.Request) {
	retrying := ofSubscription("retry-subscription", "retry a subscription", "")
	retrying.query = `
			select json_build_object('subscription', $1::text, 'count', retried)
			  from tinydevcrm.retry_subscription($1) as retried`
	s.run(w, r, retrying)
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
