// Package subscriptions is the screen of the user's own subscriptions: who is notified, how, and what has arrived.
package subscriptions

import (
	"database/sql"
	"embed"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/kit"
)

//go:embed static templates
var files embed.FS

const (
	// shownSubscriptions and shownDeliveries are how many a page shows, shownViews how many the form suggests.
	shownSubscriptions = 50
	shownDeliveries    = 20
	shownViews         = 500

	// noMailServer is a state of tinydevcrm._subscription_state().
	noMailServer = "no mail server"
)

type screen struct {
	site *kit.Site
	// publicURL is where links in messages lead.
	publicURL string
}

// New returns the screen.
func New(site *kit.Site, publicURL string) kit.Screen {
	s := &screen{site: site, publicURL: publicURL}
	pages := site.Load(files)
	routes := map[string]http.HandlerFunc{
		"GET /subscriptions":        kit.ByAccept(pages.Show("list.html", s.readList), s.writeList),
		"GET /subscriptions/new":    pages.Show("new.html", s.readForm),
		"GET /subscriptions/{name}": kit.ByAccept(pages.Show("subscription.html", s.readOne), s.writeOne),
	}
	for pattern, action := range s.actions() {
		routes[pattern] = site.Do(action)
	}
	return kit.Screen{Name: "Subscriptions", Path: "/subscriptions", Routes: routes}
}

// pageOf is the page of a subscription.
func pageOf(name string) string { return kit.Path("subscriptions", name) }

// A subscription is a row of tinydevcrm.subscription_status.
type subscription struct {
	Name, Matview, DroppedMatview string
	// URL is as lists show it, and empty for a worker, as Format is.
	URL, Format          string
	Status, LastError    string
	PauseReason          string
	Pending, Parked      int64
	InFlight, Expired    int64
	IsPaused, IsTroubled bool
	MutedUntil           sql.NullTime
	NextAttemptAt        sql.NullTime
	OldestPendingAt      sql.NullTime
	LastAcknowledgedAt   sql.NullTime
	Title, Message       string
	// NotifyWhen are its own rules; empty for those of the view. ToColumn has the addresses of who gets a row.
	NotifyWhen, ToColumn string
	EachRow              bool
}

const subscriptionColumns = `
	subscription, coalesce(matview::text, ''), coalesce(dropped_matview, ''), coalesce(url, ''), coalesce(format, ''), status,
	coalesce(last_error, ''), coalesce(pause_reason, ''), pending_count, parked_count, in_flight_count, expired_count,
	is_paused, is_troubled, muted_until, next_attempt_at, oldest_pending_at, last_acknowledged_at,
	coalesce(title, ''), coalesce(message, ''), coalesce(notify_when, ''), coalesce(to_column, ''), each_row`

func (s *subscription) fields() []any {
	return []any{
		&s.Name, &s.Matview, &s.DroppedMatview, &s.URL, &s.Format, &s.Status,
		&s.LastError, &s.PauseReason, &s.Pending, &s.Parked, &s.InFlight, &s.Expired,
		&s.IsPaused, &s.IsTroubled, &s.MutedUntil, &s.NextAttemptAt, &s.OldestPendingAt, &s.LastAcknowledgedAt,
		&s.Title, &s.Message, &s.NotifyWhen, &s.ToColumn, &s.EachRow,
	}
}

// HasSecretURL reports whether URL is one that tinydevcrm._show_url() has shortened.
func (s subscription) HasSecretURL() bool { return strings.Contains(s.URL, "/…") }

// IsStopped means that it attempts nothing, whatever is due.
func (s subscription) IsStopped() bool {
	return s.IsPaused || s.Status == noMailServer
}

// URLInput is what the field of the URL shows.
func (s subscription) URLInput() string {
	if s.HasSecretURL() {
		return ""
	}
	return s.URL
}

// Reason is why it is in its state.
func (s subscription) Reason() string {
	if s.PauseReason != "" {
		return s.PauseReason
	}
	if s.Status == noMailServer {
		return "its e-mails wait until the orchestrator has an SMTP_URL"
	}
	return s.LastError
}

type list struct {
	kit.List
	// Of is the view whose subscriptions are listed; empty for all.
	Of            string
	Subscriptions []subscription
}

func (s *screen) readList(r *http.Request, page *kit.Page) error {
	page.Title = "Subscriptions"
	shown := &list{List: kit.ListOf(r.URL, shownSubscriptions, "name"), Of: r.URL.Query().Get("of")}
	found, err := db.Collect(r.Context(), s.site.DB(r.Context()), "list the subscriptions", (*subscription).fields, `
		select `+subscriptionColumns+`
		  from tinydevcrm._list_subscriptions($1, $2, $3, $4, $5, $6)`,
		shown.Search, shown.Of, shown.Sort, shown.IsDescending, shown.Limit(), shown.Offset())
	if err != nil {
		return err
	}
	shown.Subscriptions = kit.Cut(&shown.List, found)
	page.Shown = shown
	return nil
}

// writeList answers a program with the subscriptions that it may see.
func (s *screen) writeList(w http.ResponseWriter, r *http.Request) {
	s.writeQuery(w, r, `
		select coalesce(json_agg(row_to_json(subscription_status) order by subscription), '[]')
		  from tinydevcrm.subscription_status
		 where tinydevcrm._may_see(owner)`)
}

// writeOne answers a program.
func (s *screen) writeOne(w http.ResponseWriter, r *http.Request) {
	s.writeQuery(w, r, `
		select row_to_json(subscription)
		  from tinydevcrm._describe_subscription($1)`, r.PathValue("name"))
}

func (s *screen) writeQuery(w http.ResponseWriter, r *http.Request, query string, arguments ...any) {
	answer, err := db.Collect(r.Context(), s.site.DB(r.Context()), "read subscriptions", func(text *[]byte) []any { return []any{text} }, query, arguments...)
	if err == nil && len(answer) == 0 {
		err = noSubscription(r.PathValue("name"))
	}
	if err != nil {
		s.site.WriteProblem(w, r, err)
		return
	}
	s.site.Write(w, r, http.StatusOK, "application/json; charset=utf-8", append(answer[0], '\n'))
}

func noSubscription(name string) error {
	return &db.UserError{
		Status:  http.StatusNotFound,
		Code:    "TD001",
		Message: fmt.Sprintf("there is no subscription %s of yours", name),
		Hint:    "The list of subscriptions has yours.",
	}
}

// A format is a row of tinydevcrm.webhook_formats.
type format struct{ Name, Description, ExampleURL, DocumentationURL string }

func (f *format) fields() []any {
	return []any{&f.Name, &f.Description, &f.ExampleURL, &f.DocumentationURL}
}

func (s *screen) readFormats(r *http.Request) ([]format, error) {
	return db.Collect(r.Context(), s.site.DB(r.Context()), "list the formats", (*format).fields, `
		select name, description, example_url, documentation_url
		  from tinydevcrm.webhook_formats
		 order by rank`)
}

// A rule is a row of tinydevcrm.subscription_rules().
type rule struct {
	Name, Label, Description string
	IsChosen                 bool
}

func (r *rule) fields() []any { return []any{&r.Name, &r.Label, &r.Description} }

// readRules reads the rules that a subscription can have, with those that are chosen: in the user's input, or else in
// a list with commas.
func (s *screen) readRules(r *http.Request, page *kit.Page, chosen string) ([]rule, error) {
	names := strings.Split(chosen, ", ")
	if page.Flash != nil && page.Flash.Form != nil {
		names = page.Flash.Form["rules"]
	}
	rules, err := db.Collect(r.Context(), s.site.DB(r.Context()), "list the rules", (*rule).fields, `
		select name, label, description
		  from tinydevcrm.subscription_rules()
		 order by rank`)
	for i := range rules {
		rules[i].IsChosen = slices.Contains(names, rules[i].Name)
	}
	return rules, err
}

// A form is what the page of a new subscription shows.
type form struct {
	// Matview is the view for which the page was opened.
	Matview string
	Views   []string
	Formats []format
	Rules   []rule
}

func (s *screen) readForm(r *http.Request, page *kit.Page) error {
	page.Title = "New subscription"
	page.Crumbs = []kit.Link{{Name: "Subscriptions", URL: "/subscriptions"}}
	shown := form{Matview: r.URL.Query().Get("view")}
	var err error
	shown.Views, err = db.Collect(r.Context(), s.site.DB(r.Context()), "list the views", func(name *string) []any { return []any{name} }, `
		select relation::text
		  from tinydevcrm.matviews
		 where tinydevcrm._may_see(owner)
		 order by 1
		 limit $1`, shownViews)
	if err != nil {
		return err
	}
	if shown.Formats, err = s.readFormats(r); err != nil {
		return err
	}
	shown.Rules, err = s.readRules(r, page, "")
	page.Shown = &shown
	return err
}
