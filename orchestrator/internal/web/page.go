package web

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

// The steps of the page, by the ids of their sections; stepPage is the page as a whole.
const (
	stepPage     = "page"
	stepUpload   = "upload"
	stepTables   = "tables"
	stepView     = "view"
	stepSchedule = "schedule"
	stepEvents   = "events"
)

// A page is what the template shows: what the user has chosen and filled in, and what is there.
type page struct {
	status   int
	problems map[string]db.Problem

	// Done is what has just been done, and Refreshed the event of it when it was a refresh.
	Done      string
	Refreshed *event

	// Asked and Matview are the table and the materialized view that the user is at.
	Asked, Matview string

	// Upload are the options of the upload, and Plan what it would do, if that was asked.
	Upload url.Values
	Plan   *Plan

	View     viewForm
	Schedule string

	// Now makes the link to the newest events another address each time: to the same one, a browser
	// only scrolls.
	Now int64

	MaxUpload int64
	Tables    []table
	Table     *table
	Matviews  []matview
	Events    []event
}

type viewForm struct{ Name, Query, NotifyWhen string }

// An uploadField is an option of an upload that is written into the form.
type uploadField struct{ Name, Label, Placeholder string }

func uploadFields() []uploadField {
	return []uploadField{
		{"key", "Key", "id, or country,year"},
		{"type", "Types of columns", "zip=text; amount=numeric(10,2)"},
		{"null", "Text that means NULL", "the empty one"},
		{"delimiter", "Delimiter", "look"},
		{"quote", "Quote", "look"},
		{"escape", "Escape within quotes", "look"},
		{"encoding", "Encoding", "look"},
		{"skip", "Lines before the header", "look"},
	}
}

// HasUploadOptions tells whether one of the options is set that are folded away.
func (p page) HasUploadOptions() bool {
	return p.Upload.Get("header")+p.Upload.Get("ragged") != "" ||
		slices.ContainsFunc(uploadFields(), func(field uploadField) bool { return p.Upload.Get(field.Name) != "" })
}

// Problem is the error to show at a step, if there is one.
func (p page) Problem(step string) *db.Problem {
	if problem, isThere := p.problems[step]; isThere {
		return &problem
	}
	return nil
}

// setProblem puts an error at a step. The first one is the page's status.
func (p *page) setProblem(step string, problem db.Problem) {
	if p.problems == nil {
		p.problems = map[string]db.Problem{}
	}
	p.problems[step] = problem
	if p.status == 0 {
		p.status = problem.Status
	}
}

// pageURL is the page with something chosen, at a step.
func pageURL(values url.Values, step string) string {
	return "/?" + values.Encode() + "#" + step
}

// pageOfForm keeps what the user has filled in, for the page that shows what is wrong with it.
func pageOfForm(form url.Values) page {
	return page{
		Asked:    form.Get("table"),
		Matview:  form.Get("relation"),
		Schedule: form.Get("schedule"),
		View: viewForm{
			Name:       form.Get("name"),
			Query:      form.Get("query"),
			NotifyWhen: form.Get("notify_when"),
		},
	}
}

func (s *server) showPage(w http.ResponseWriter, r *http.Request) {
	values := r.URL.Query()
	shown := page{
		Asked:   values.Get("table"),
		Matview: values.Get("matview"),
		Done:    values.Get("done"),
	}

	if id, err := strconv.ParseInt(values.Get("event"), 10, 64); err == nil {
		refreshed, err := s.readPageEvents(r.Context(), numberedEvents, "{"+strconv.FormatInt(id, 10)+"}")
		if err == nil && len(refreshed) == 1 {
			shown.Refreshed = &refreshed[0]
		}
	}
	s.renderPage(w, r, shown)
}

// renderPage fills in what is in the database, as far as it can be read, and writes the page.
func (s *server) renderPage(w http.ResponseWriter, r *http.Request, shown page) {
	shown.MaxUpload = s.MaxUpload
	shown.Now = time.Now().UnixMilli()
	if err := s.fillPage(r, &shown); err != nil {
		shown.setProblem(stepPage, s.explain(r, err))
	}
	shown.suggest()
	if shown.status == 0 {
		shown.status = http.StatusOK
	}

	var body bytes.Buffer
	if err := s.page.Execute(&body, shown); err != nil {
		s.writeProblem(w, r, fmt.Errorf("render the page: %w", err))
		return
	}
	s.write(w, r, shown.status, "text/html; charset=utf-8", body.Bytes())
}

func timeoutOf(r *http.Request) (context.Context, context.CancelFunc) {
	return context.WithTimeout(r.Context(), readTimeout)
}

func (s *server) fillPage(r *http.Request, shown *page) error {
	ctx, cancel := timeoutOf(r)
	defer cancel()

	tables, selected, err := s.readTables(ctx, shown.Asked)
	if err != nil {
		return err
	}
	shown.Tables = tables
	if shown.Matviews, err = s.readMatviews(ctx); err != nil {
		return err
	}
	if shown.Events, err = s.readPageEvents(ctx, latestEvents, 0, shownEvents); err != nil {
		return err
	}

	if selected < 0 {
		if shown.Asked != "" {
			shown.setProblem(stepTables, db.Problem{
				Status:  http.StatusNotFound,
				Message: fmt.Sprintf("there is no imported table %s", shown.Asked),
				Hint:    "Choose one of the list, or upload its file.",
			})
		}
		return nil
	}

	// Last, and with an error of its own: a table that is just being replaced is locked, and the
	// rest of the page does not depend on it.
	shown.Table = &tables[selected]
	if err := s.readContents(ctx, shown.Table); err != nil {
		shown.setProblem(stepTables, s.explain(r, err))
	}
	return nil
}

func (s *server) readPageEvents(ctx context.Context, query string, arguments ...any) ([]event, error) {
	messages, err := s.readEventsInTime(ctx, query, arguments...)
	if err != nil {
		return nil, err
	}
	events := make([]event, len(messages))
	for i, message := range messages {
		if err := json.Unmarshal(message.data, &events[i]); err != nil {
			return nil, fmt.Errorf("read event %d: %w", message.id, err)
		}
	}
	return events, nil
}

// suggest prefills what the user has left empty, so that each button does something when pressed.
func (p *page) suggest() {
	if p.Schedule == "" {
		p.Schedule = "5 seconds"
	}
	if p.Table == nil || p.View != (viewForm{}) {
		return
	}

	p.View.Name = p.unusedName(p.Table.Name + "_now")
	p.View.Query = "select *\n  from " + p.Table.Relation
	if len(p.Table.Columns) == 1 && p.Table.Columns[0].Name == "AColumnOfNumbers" {
		p.View.Query += "\n where \"AColumnOfNumbers\" = floor(extract(second from now()))::integer % 10"
	}
	p.View.NotifyWhen = "not_empty"
}

// unusedName gives a name that no view of the list has.
func (p *page) unusedName(wanted string) string {
	name := wanted
	isUsed := func(matview matview) bool {
		return matview.Relation == name || matview.Relation == identifier(name)
	}
	for number := 2; slices.ContainsFunc(p.Matviews, isUsed); number++ {
		name = wanted + "_" + strconv.Itoa(number)
	}
	return name
}

// HasDone tells whether this has just been done, and what there is to say of it is there.
func (p page) HasDone(what string) bool {
	switch what {
	case "upload":
		return p.Done == what && p.Table != nil
	case "refresh":
		return p.Done == what && p.Refreshed != nil
	}
	return p.Done == what
}

// Headers is the table's columns as a staging table of psql's \copy has them.
func (t table) Headers() string {
	columns := make([]string, len(t.Columns))
	for i, column := range t.Columns {
		columns[i] = identifier(column.Name) + " text"
	}
	return strings.Join(columns, ", ")
}
