package subscriptions

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/message"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/trial"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/kit"
)

// A delivery is a row of tinydevcrm._list_deliveries().
type delivery struct {
	ID, EventID int64
	// CarriedBy is the event whose delivery carries this one; 0 for none.
	CarriedBy             int64
	Matview, Outcome      string
	Status, LastError     string
	Attempts, MaxAttempts int64
	// Part is the part of the event; 0 for the whole.
	Part          int64
	CreatedAt     time.Time
	NextAttemptAt sql.NullTime
	// AnsweredAt is when it was acknowledged or parked.
	AnsweredAt sql.NullTime
}

func (d *delivery) fields() []any {
	return []any{&d.ID, &d.EventID, &d.CarriedBy, &d.Matview, &d.Outcome, &d.Status, &d.LastError, &d.Attempts, &d.MaxAttempts,
		&d.CreatedAt, &d.NextAttemptAt, &d.AnsweredAt, &d.Part}
}

// Says is the state as people say it.
func (d delivery) Says() string {
	if d.Status == "parked" {
		return "dead-lettered"
	}
	return d.Status
}

// Class colours the state.
func (d delivery) Class() string {
	switch d.Status {
	case "acknowledged":
		return "good"
	case "parked", "failing":
		return "bad"
	}
	return ""
}

// Waits means that a next attempt is known, and not yet due.
func (d delivery) Waits() bool { return d.NextAttemptAt.Valid && time.Until(d.NextAttemptAt.Time) > 0 }

// A tab leads to the deliveries of one kind.
type tab struct {
	kit.Link
	IsCurrent bool
}

// One is what the page of a subscription shows.
type one struct {
	subscription
	MatviewKey          string
	MaxAttempts         int64
	NumbersAsText       bool
	CreatedAt           time.Time
	IsSigned            bool
	PreviousSecretUntil sql.NullTime
	HeaderNames         []string
	FailureCount        int64
	FailingSince        sql.NullTime
	NextProbeAt         sql.NullTime

	// Digest is a schedule, and NextDigestAt when it is sent next; empty when each message is sent at once.
	Digest                       string
	NextDigestAt                 sql.NullTime
	AllowedDomains, Unsubscribed []string

	Formats []format
	Rules   []rule
	Test    *trial.Outcome
	// Kind is that of the deliveries that are shown; empty for all. Here is the address of the page.
	Kind, Here string
	Deliveries []delivery
	HasMore    bool
	// IsOlder means that there are newer deliveries.
	IsOlder bool
	// Preview is what it sends for its last event; Example is that event in JSON, for those who get all of it.
	Preview *message.Message
	// IsExample means that there is no event yet, and the preview is of an invented one.
	IsExample      bool
	PreviewProblem *db.Problem
	Example        string
}

// kinds are those of tinydevcrm._list_deliveries().
var kinds = [...][2]string{
	{"", "All"}, {"waiting", "Waiting"}, {"failing", "Failing"}, {"parked", "Dead-lettered"}, {"acknowledged", "Acknowledged"},
}

// Tabs are the kinds of deliveries.
func (o one) Tabs() []tab {
	tabs := make([]tab, len(kinds))
	for i, kind := range kinds {
		address := pageOf(o.Name)
		if kind[0] != "" {
			address += "?kind=" + kind[0]
		}
		tabs[i] = tab{kit.Link{Name: kind[1], URL: address + "#deliveries"}, kind[0] == o.Kind}
	}
	return tabs
}

// Older is the URL of the deliveries before those on the page; empty for none.
func (o one) Older() string {
	if !o.HasMore {
		return ""
	}
	values := url.Values{"before": {strconv.FormatInt(o.Deliveries[len(o.Deliveries)-1].ID, 10)}}
	if o.Kind != "" {
		values.Set("kind", o.Kind)
	}
	return pageOf(o.Name) + "?" + values.Encode() + "#deliveries"
}

// Domains are the allowed ones, as the form writes them.
func (o one) Domains() string { return strings.Join(o.AllowedDomains, ", ") }

// IsOfOneView means that it can get the rows of its view apart.
func (o one) IsOfOneView() bool { return o.MatviewKey != "" }

// IsWorker means that it has no endpoint.
func (o one) IsWorker() bool { return o.URL == "" }

// IsEmail means that it is sent to addresses: there is no endpoint that a header or a format is for.
func (o one) IsEmail() bool { return o.Format == "email" }

// HasTemplates means that people read its messages, or its template is the whole post.
func (o one) HasTemplates() bool { return !o.IsWorker() && o.Format != "standard" }

// IsBusy means that something will change soon: the page looks again.
func (o one) IsBusy() bool {
	isDue := o.NextAttemptAt.Valid && time.Until(o.NextAttemptAt.Time) < time.Minute
	return o.InFlight > 0 || o.Pending > 0 && isDue && !o.IsPaused
}

func (s *screen) readOne(r *http.Request, page *kit.Page) error {
	name := r.PathValue("name")
	page.Title = name
	page.Crumbs = []kit.Link{{Name: "Subscriptions", URL: "/subscriptions"}}
	shown := &one{Kind: r.URL.Query().Get("kind"), Here: r.URL.RequestURI()}
	err := s.site.DB(r.Context()).QueryRowContext(r.Context(), `
		select `+subscriptionColumns+`,
		       coalesce(matview_key, ''), max_attempts, numbers_as_text, created_at, coalesce(is_signed, false),
		       previous_secret_until, header_names, coalesce(failure_count, 0), failing_since, next_probe_at,
		       coalesce(digest, ''), next_post_at, allowed_domains, unsubscribed
		  from (
		    select (subscription).*,
		           matview_key, max_attempts, numbers_as_text, created_at, is_signed,
		           previous_secret_until, header_names, failure_count, failing_since, next_probe_at,
		           digest, next_post_at, allowed_domains, unsubscribed
		      from tinydevcrm._describe_subscription($1)
		  ) as described`, name).Scan(append(shown.subscription.fields(),
		&shown.MatviewKey, &shown.MaxAttempts, &shown.NumbersAsText, &shown.CreatedAt, &shown.IsSigned,
		&shown.PreviousSecretUntil, pq.Array(&shown.HeaderNames), &shown.FailureCount, &shown.FailingSince, &shown.NextProbeAt,
		&shown.Digest, &shown.NextDigestAt, pq.Array(&shown.AllowedDomains), pq.Array(&shown.Unsubscribed))...)
	if errors.Is(err, sql.ErrNoRows) {
		return noSubscription(name)
	}
	if err != nil {
		return fmt.Errorf("read subscription %q: %w", name, err)
	}
	if page.HasDone("test") {
		shown.Test = readTest(page.Flash.Made)
	}
	if shown.Formats, err = s.readFormats(r); err != nil {
		return err
	}
	if shown.Rules, err = s.readRules(r, page, shown.NotifyWhen); err != nil {
		return err
	}
	if err := s.readDeliveries(r, shown); err != nil {
		return err
	}
	page.Shown = shown
	s.readPreview(r, page, shown)
	return nil
}

func (s *screen) readDeliveries(r *http.Request, shown *one) error {
	if !slices.ContainsFunc(kinds[:], func(kind [2]string) bool { return kind[0] == shown.Kind }) {
		shown.Kind = ""
	}
	before, _ := strconv.ParseInt(r.URL.Query().Get("before"), 10, 64)
	shown.IsOlder = before > 0
	found, err := db.Collect(r.Context(), s.site.DB(r.Context()), fmt.Sprintf("read the deliveries of %q", shown.Name), (*delivery).fields, `
		select delivery_id, event_id, coalesce(carried_by, 0), matview, outcome, status, coalesce(last_error, ''), attempts, max_attempts,
		       created_at, next_attempt_at, coalesce(acknowledged_at, parked_at), row_number
		  from tinydevcrm._list_deliveries($1, nullif($2, ''), nullif($3, 0), $4)`,
		shown.Name, shown.Kind, before, shownDeliveries+1)
	shown.HasMore = len(found) > shownDeliveries
	shown.Deliveries = found[:min(len(found), shownDeliveries)]
	return err
}

// readPreview shows what the templates make of the last event: those that were typed, or else its own. The page does
// without when that fails.
func (s *screen) readPreview(r *http.Request, page *kit.Page, shown *one) {
	title, text := page.Input("title", shown.Title), page.Input("message", shown.Message)
	if flash := page.Flash; flash != nil && flash.Problem != nil && flash.At == "message" {
		title, text = shown.Title, shown.Message
	}
	m, err := s.readMessage(r.Context(), "select tinydevcrm.preview_message($1, $2, $3)", shown.Name, title, text)
	if err != nil {
		problem := s.site.Explain(r, err)
		shown.PreviewProblem = &problem
		return
	}
	shown.Preview = &m
	shown.IsExample = fmt.Sprint(m.Event["id"]) == "0"
	if !shown.HasTemplates() {
		var example strings.Builder
		encoder := json.NewEncoder(&example)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		_ = encoder.Encode(m.Event)
		shown.Example = example.String()
	}
}

// readTest reads what an action has answered.
func readTest(made map[string]any) *trial.Outcome {
	text, _ := json.Marshal(made)
	var outcome trial.Outcome
	_ = json.Unmarshal(text, &outcome)
	return &outcome
}
