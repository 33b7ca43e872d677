package web

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
)

// The steps of the page, by the ids of their sections. stepPage is the page as a whole.
const (
	stepPage     = "page"
	stepUpload   = "upload"
	stepTables   = "tables"
	stepView     = "view"
	stepSchedule = "schedule"
	stepNotify   = "notify"
)

// A page holds what the template shows: what the user has chosen and typed, and what is in the database.
type page struct {
	status   int
	problems map[string]db.Problem

	// User is the role that has logged in; empty without log-ins.
	User string
	// Chosen is the user's current selection: see chosenNames.
	Chosen url.Values
	// Done is what has just been done; nil for nothing.
	Done *flash
	// Away is why the database cannot be reached, AwayAt the step whose form was then sent, AwaySince when
	// that was first noticed. The page shows only that form; when no form was sent, it reloads by itself.
	Away      *db.Problem
	AwayAt    string
	AwaySince time.Time
	IsRetried bool
	// unread are the parts that could not be read. The page does not show them.
	unread map[string]bool

	Overview overview

	// Modes are what an upload can do with an existing table.
	Modes []importMode
	// Upload are the options of the upload; Plan is its preview, if one was requested.
	Upload    url.Values
	Plan      *upload.Plan
	Types     []string
	MaxUpload int64

	Tables []table
	// HasMore says, for each list, whether there are more entries than it shows.
	HasMore struct{ Tables, Matviews, Subscriptions, Events bool }
	Table   *table

	// Rules are those by which a view notifies.
	Rules   []notifyRule
	View    viewForm
	Preview *preview
	// freeName is a name that no relation has.
	freeName string

	Schedule string
	When     *description
	Matviews []matview
	Matview  *matview
	Dropped  []droppedMatview
	// Watch is the invalid input in the form for the rule of the chosen view.
	Watch *watchForm
	// Altering is the form for the query of the chosen view.
	Altering *altering
	// Replay is when a rule for the chosen view would have notified, if that was asked for.
	Replay *replay
	// Embedding is the form for the widget of the chosen view, Origins the invalid input in it.
	Embedding *embedding
	Origins   string

	Subscribe subscriptionForm
	Formats   []webhookFormat
	// Typed are the templates as they were typed; nil when nobody has.
	Typed         *templateForm
	Subscriptions []subscription
	Subscription  *subscription

	// Now makes the URL of the link to the newest events different each time, because a browser only scrolls
	// for a link to the same URL.
	Now    int64
	Events []event
	// Before is the event before which the feed begins; 0 for the newest.
	Before int64
}

type viewForm struct{ Name, Query, NotifyWhen string }

type watchForm struct{ NotifyWhen, IgnoredColumns, NotifyInterval, NotifyAfter, NotifyDeadline string }

// chosenNames are the parameters of the user's current selection: the table, view and subscription, the search
// texts for the first two, and the view and outcome of the feed. All links and all forms but the upload's pass
// them on.
func chosenNames() []string {
	return []string{"table", "tables", "matview", "matviews", "subscription", "of", "outcome"}
}

func chosenOf(values url.Values) url.Values {
	chosen := url.Values{}
	for _, name := range chosenNames() {
		if value := values.Get(name); value != "" {
			chosen.Set(name, value)
		}
	}
	return chosen
}

// ChosenBut is the current selection without the named parameters.
func (p page) ChosenBut(names ...string) url.Values {
	values := chosenOf(p.Chosen)
	for _, name := range names {
		values.Del(name)
	}
	return values
}

// Link is the URL of the page at a step, with one parameter changed.
func (p page) Link(step, name, value string) string {
	values := chosenOf(p.Chosen)
	values.Set(name, value)
	return pageURL(values, step)
}

// pageURL is the URL of the page at a step, with this selection.
func pageURL(values url.Values, step string) string {
	return "/?" + values.Encode() + "#" + step
}

// Oldest is the id of the oldest event in the feed.
func (p page) Oldest() string {
	if len(p.Events) == 0 {
		return ""
	}
	return strconv.FormatInt(p.Events[len(p.Events)-1].ID, 10)
}

// Stream is the URL of the events for the feed.
func (p page) Stream() string {
	return "/events/stream?" + url.Values{
		"of":      {p.Chosen.Get("of")},
		"outcome": {p.Chosen.Get("outcome")},
	}.Encode()
}

// News is the URL of the parts that change by themselves.
func (p page) News() string {
	values := chosenOf(p.Chosen)
	// The shown view and subscription stay selected, even if another one comes first in the lists by then.
	if p.Matview != nil {
		values.Set("matview", p.Matview.Relation)
	}
	if p.Subscription != nil {
		values.Set("subscription", p.Subscription.Name)
	}
	return "/news?" + values.Encode()
}

// Rule holds the values of the form for the rule of the chosen view.
func (p page) Rule() watchForm {
	if p.Watch != nil {
		return *p.Watch
	}
	return watchForm{p.Matview.NotifyWhen, p.Matview.IgnoredColumns, p.Matview.NotifyInterval, strconv.Itoa(p.Matview.NotifyAfter),
		p.Matview.NotifyDeadline}
}

// Problem is the error to show at a step, if there is one.
func (p page) Problem(step string) *db.Problem {
	if problem, isThere := p.problems[step]; isThere {
		return &problem
	}
	return nil
}

// setProblem sets the error of a step, unless it has one. The first error of all gives the page its status.
func (p *page) setProblem(step string, problem db.Problem) {
	if p.problems == nil {
		p.problems = map[string]db.Problem{}
	}
	if p.Problem(step) != nil {
		return
	}
	p.problems[step] = problem
	if p.status == 0 {
		p.status = problem.Status
	}
}

// setAway makes the page say that the database cannot be reached.
func (p *page) setAway(step string, problem db.Problem) {
	p.Away, p.AwayAt, p.status = &problem, step, http.StatusServiceUnavailable
}

// Shows reports whether the section of a step is shown.
func (p page) Shows(step string) bool { return p.Away == nil || p.AwayAt == step }

// Knows reports whether a part of the page has been read.
func (p page) Knows(part string) bool { return p.Away == nil && !p.unread[part] }

// pageOfForm keeps the user's input for the page that shows the error.
func pageOfForm(form url.Values) page {
	filled := page{
		Chosen:   chosenOf(form),
		Schedule: form.Get("schedule"),
		Origins:  form.Get("origins"),
		Subscribe: subscriptionForm{
			Name:    form.Get("new_subscription"),
			Matview: form.Get("new_matview"),
			URL:     form.Get("url"),
			Format:  form.Get("format"),

			NumbersAsText: form.Get("numbers_as_text") == "true",
			Rules:         form.Get("rules"),
			EachRow:       form.Get("each_row") == "true",
		},
	}
	if form.Has("title") {
		filled.Typed = &templateForm{form.Get("subscription"), form.Get("title"), form.Get("message")}
	}
	if relation := form.Get("relation"); relation != "" {
		filled.Chosen.Set("matview", relation)
	}
	if form.Has("relation") && form.Has("query") {
		filled.Altering = &altering{Query: form.Get("query"), IsTyped: true}
	} else if form.Has("query") || form.Has("name") {
		filled.View = viewForm{
			Name:       form.Get("name"),
			Query:      form.Get("query"),
			NotifyWhen: form.Get("notify_when"),
		}
	}
	if form.Has("ignored_columns") && form.Has("notify_interval") {
		filled.Watch = &watchForm{
			NotifyWhen:     form.Get("notify_when"),
			IgnoredColumns: form.Get("ignored_columns"),
			NotifyInterval: form.Get("notify_interval"),
			NotifyAfter:    form.Get("notify_after"),
			NotifyDeadline: form.Get("notify_deadline"),
		}
	}
	return filled
}

func (s *server) showPage(w http.ResponseWriter, r *http.Request) {
	values := r.URL.Query()
	shown := page{
		Chosen:   chosenOf(values),
		Schedule: values.Get("schedule"),
		Before:   filterOf(values).before,
	}
	shown.Done = s.takeFlash(w, r)
	ctx, cancel := timeoutOf(r)
	defer cancel()

	if shown.Schedule != "" {
		when, err := s.describe(ctx, shown.Schedule)
		if problem := s.explainIf(r, err); problem != nil && problem.IsAway {
			shown.setAway(stepPage, *problem)
		} else if problem != nil {
			shown.setProblem(stepSchedule, *problem)
		}
		shown.When = when
	}
	if values.Has("replay") {
		filled := pageOfForm(values)
		shown.Watch, shown.Chosen = filled.Watch, filled.Chosen
		found, err := s.replayOf(ctx, values)
		if problem := s.explainIf(r, err); problem != nil && problem.IsAway {
			shown.setAway(stepPage, *problem)
		} else if problem != nil {
			shown.setProblem(stepSchedule, *problem)
		}
		shown.Replay = found
	}
	s.renderPage(w, r, shown)
}

// showChosen leads to the page at a step, with what the address names as its selection.
func (s *server) showChosen(parameter, step string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.redirect(w, r, pageURL(url.Values{parameter: {r.PathValue("name")}}, step))
	}
}

// renderPage reads what the page shows, as far as it can be read, and writes the page.
func (s *server) renderPage(w http.ResponseWriter, r *http.Request, shown page) {
	shown.MaxUpload = s.MaxUpload
	shown.User = s.session(r.Context()).user
	shown.Now = time.Now().UnixMilli()
	if shown.Chosen == nil {
		shown.Chosen = url.Values{}
	}
	if shown.Away == nil {
		s.fillPage(r, &shown)
	}
	shown.suggest()
	if matview := shown.Matview; matview != nil && matview.IsOwn {
		shown.Embedding = &embedding{
			Relation: matview.Relation, Name: matview.Key, Origins: matview.Origins, Typed: shown.Origins, Site: siteOf(r),
		}
	}
	if since := s.awaySince.Load(); shown.Away != nil && since != nil {
		shown.AwaySince = *since
		shown.IsRetried = r.Method == http.MethodGet
		w.Header().Set("Retry-After", "10")
	}
	if shown.status == 0 {
		shown.status = http.StatusOK
	}

	var body bytes.Buffer
	if err := s.templates.ExecuteTemplate(&body, "page.html", shown); err != nil {
		s.writeProblem(w, r, fmt.Errorf("render the page: %w", err))
		return
	}
	s.write(w, r, shown.status, "text/html; charset=utf-8", body.Bytes())
}

// fillPage reads the parts of the page one by one, until the database is away.
func (s *server) fillPage(r *http.Request, shown *page) {
	ctx, cancel := timeoutOf(r)
	defer cancel()
	shown.unread = map[string]bool{}
	for _, fill := range []struct {
		part, step string
		from       func(context.Context, *page) error
	}{
		{"rules", stepPage, s.fillRules},
		{"overview", stepPage, s.fillOverview},
		{"matviews", stepSchedule, s.fillMatviews},
		{"dropped", stepSchedule, s.fillDropped},
		{"query", stepSchedule, s.fillQuery},
		{"subscriptions", stepNotify, s.fillSubscriptions},
		{"events", stepPage, s.fillEvents},
		{"modes", stepPage, s.fillModes},
		{"types", stepPage, s.fillTypes},
		{"tables", stepTables, s.fillTables},
		{"name", stepView, s.fillName},
	} {
		problem := s.explainIf(r, fill.from(ctx, shown))
		if problem == nil {
			continue
		}
		shown.unread[fill.part] = true
		if problem.IsAway {
			shown.setAway(stepPage, *problem)
			return
		}
		shown.setProblem(fill.step, *problem)
	}
	if len(shown.unread) == 0 {
		s.awaySince.Store(nil)
	}
}

// showNews writes the parts that change by themselves, for an open page.
func (s *server) showNews(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := timeoutOf(r)
	defer cancel()

	shown := page{Chosen: chosenOf(r.URL.Query()), User: s.session(r.Context()).user}
	var body bytes.Buffer
	for _, fill := range []func(context.Context, *page) error{
		s.fillOverview, s.fillMatviews, s.fillSubscriptions,
	} {
		if err := fill(ctx, &shown); err != nil {
			s.writeProblem(w, r, err)
			return
		}
	}
	s.awaySince.Store(nil)
	if err := s.templates.ExecuteTemplate(&body, "news.html", shown); err != nil {
		s.writeProblem(w, r, fmt.Errorf("render the news: %w", err))
		return
	}
	s.write(w, r, http.StatusOK, "text/html; charset=utf-8", body.Bytes())
}

func timeoutOf(r *http.Request) (context.Context, context.CancelFunc) {
	return context.WithTimeout(r.Context(), readTimeout)
}

// suggest fills empty fields with examples, so that each button does something.
func (p *page) suggest() {
	if p.Schedule == "" && p.Matview != nil {
		p.Schedule = p.Matview.Schedule
	}
	if p.Schedule == "" {
		p.Schedule = "5 seconds"
	}
	if p.Table == nil || p.View.Name != "" || p.View.Query != "" {
		return
	}

	p.View.Query = "select *\n  from " + p.Table.Relation
	if len(p.Table.Columns) == 1 && p.Table.Columns[0].Name == "AColumnOfNumbers" {
		p.View.Query += "\n where \"AColumnOfNumbers\" = floor(extract(second from now()))::integer % 10"
		p.View.NotifyWhen = "not_empty"
	}
	p.View.Name = p.freeName
}

// fillName finds a free name for a view of the chosen table.
func (s *server) fillName(ctx context.Context, shown *page) error {
	if shown.Table == nil {
		return nil
	}
	err := s.pool(ctx).QueryRowContext(ctx, "select tinydevcrm._find_unused_name($1)", shown.Table.Name+"_now").Scan(&shown.freeName)
	if err != nil {
		return fmt.Errorf("find a free name: %w", err)
	}
	return nil
}

// HasDone reports whether this action has just been done.
func (p page) HasDone(what string) bool { return p.Done != nil && p.Done.Done == what }
