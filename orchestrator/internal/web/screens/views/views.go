// Package views is the screen of the watched views: the list, each view with its rows, and the query editor.
package views

import (
	"cmp"
	"database/sql"
	"embed"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/kit"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/parts"
)

//go:embed static templates
var files embed.FS

const (
	shownViews   = 50
	shownDropped = 10
)

type screen struct {
	site   *kit.Site
	events *parts.Events
}

// New returns the screen.
func New(site *kit.Site, events *parts.Events, downloads *parts.Downloads) kit.Screen {
	s := &screen{site: site, events: events}
	pages := site.Load(files, parts.Files)
	show := pages.Show("view.html", s.readView)
	page := func(w http.ResponseWriter, r *http.Request, name string) {
		r.SetPathValue("name", cmp.Or(name, r.PathValue("name")))
		show(w, r)
	}
	routes := s.actions()
	routes["GET /views"] = kit.ByAccept(pages.Show("list.html", s.readList), s.listViews)
	routes["GET /views/new"] = pages.Show("new.html", s.readNew)
	routes["GET /views/names"] = s.listNames
	routes["GET /views/{name}"] = downloads.Serve(findView, page)
	routes["GET /views/{name}/edit"] = pages.Show("edit.html", s.readEdit)
	routes["GET /matviews"] = s.listViews
	routes["GET /matviews/{name}"] = downloads.Serve(findView, s.redirectToView)
	routes["GET /schedules/describe"] = s.describeSchedule
	routes["GET /rules/replay"] = s.replayRule
	return kit.Screen{Name: "Views", Path: "/views", Routes: routes}
}

// redirectToView sends a browser to the page of a view.
func (s *screen) redirectToView(w http.ResponseWriter, r *http.Request, name string) {
	s.site.Redirect(w, r, kit.Path("views", cmp.Or(name, r.PathValue("name"))))
}

// A view is a row of tinydevcrm._find_matviews(), with a chart.
type view struct {
	ID int64
	// Key is its name with its schema, as in events. Relation is the name as psql would show it.
	Key, Relation string
	// Owner is the role that owns the view. IsOwn means that the user has logged in as that role. Only then
	// the page reads its rows and can change it.
	Owner           string
	IsOwn, IsPaused bool
	// IsManaged is whether files define it, so that an edit is undone when they are applied again.
	IsManaged          bool
	NotifyWhen, Status string
	IsTroubled         bool
	// NotifyInterval and NotifyDeadline are empty when there are none.
	NotifyInterval, NotifyDeadline string
	NotifyAfter                    int
	MutedUntil                     sql.NullTime
	// SuppressedBy is why the last refresh did not notify.
	SuppressedBy string
	// RuleLabel is the rule in words.
	RuleLabel string
	// IgnoredColumns is a list of names, as written in SQL.
	IgnoredColumns       string
	Schedule, LateReason string
	// RenamedRead says which renamed table it reads although there is a new one of the old name.
	RenamedRead                              string
	ErrorMessage                             string
	RowCount                                 sql.NullInt64
	LastRefreshedAt, NextDueAt, FailingSince sql.NullTime
	// UntrackedReason is empty when its schedule refreshes it only after its tables have changed, and it can be
	// refreshed on change.
	UntrackedReason              string
	LastCheckedAt, LastChangedAt sql.NullTime
	// Origins are the sites that may show it as a widget.
	Origins []string
	Chart   parts.Chart
}

func (v *view) fields() []any {
	return []any{
		&v.ID, &v.Key, &v.Relation, &v.Owner, &v.IsOwn, &v.IsPaused, &v.NotifyWhen, &v.Status, &v.IsTroubled,
		&v.NotifyInterval, &v.NotifyDeadline, &v.NotifyAfter, &v.MutedUntil, &v.SuppressedBy, &v.IgnoredColumns,
		&v.Schedule, &v.LateReason, &v.RenamedRead, &v.ErrorMessage, &v.RowCount, &v.LastRefreshedAt, &v.NextDueAt,
		&v.FailingSince, &v.UntrackedReason, &v.LastCheckedAt, &v.LastChangedAt, pq.Array(&v.Origins), &v.RuleLabel,
		&v.IsManaged,
	}
}

const viewColumns = `
	select id,
	       key,
	       (matview).relation::text,
	       (matview).owner::text,
	       is_own,
	       is_paused,
	       (matview).notify_when,
	       (matview).status,
	       (matview).is_troubled,
	       notify_interval,
	       coalesce((matview).notify_deadline::text, ''),
	       notify_after,
	       (matview).muted_until,
	       coalesce((matview).suppressed_by, ''),
	       ignored_columns,
	       coalesce((matview).schedule, ''),
	       coalesce((matview).late_reason, ''),
	       coalesce((matview).renamed_read, ''),
	       coalesce((matview).error_message, ''),
	       (matview).row_count,
	       (matview).last_refreshed_at,
	       (matview).next_due_at,
	       (matview).failing_since,
	       coalesce((matview).untracked_reason, ''),
	       (matview).last_checked_at,
	       (matview).last_changed_at,
	       origins,
	       (select label from tinydevcrm.notify_rules where name = (matview).notify_when),
	       (matview).is_managed`

// Class is that of the state: good, bad, or neither.
func (v view) Class() string {
	switch {
	case v.IsTroubled, v.Status == "not populated":
		return "bad"
	case v.Status == "ok":
		return "good"
	}
	return ""
}

// Why is the reason for the state; empty for none.
func (v view) Why() string { return cmp.Or(v.ErrorMessage, v.LateReason, v.RenamedRead) }

// readCharts gives each view its chart.
func (s *screen) readCharts(r *http.Request, views []view) error {
	ids := make([]int64, len(views))
	for i, view := range views {
		ids[i] = view.ID
	}
	charts, err := parts.ReadCharts(r.Context(), s.site.DB(r.Context()), ids)
	for i := range views {
		views[i].Chart = charts[views[i].ID]
	}
	return err
}

// A dropped view is a row of tinydevcrm.dropped_matviews, with the beginning of its query.
type dropped struct {
	Name, By, Query string
	At              time.Time
}

func (d *dropped) fields() []any { return []any{&d.Name, &d.By, &d.Query, &d.At} }

type list struct {
	kit.List
	State   string
	Views   []view
	Dropped []dropped
}

// States are those of tinydevcrm._matview_state().
func (list) States() []string {
	return []string{"failing", "late", "silent", "reads renamed table", "not populated", "not scheduled", "paused", "ok"}
}

func (s *screen) readList(r *http.Request, page *kit.Page) (err error) {
	ctx, pool := r.Context(), s.site.DB(r.Context())
	page.Title = "Views"
	found := &list{List: kit.ListOf(r.URL, shownViews, "name", "refreshed"), State: r.URL.Query().Get("state")}
	found.Views, err = db.Collect(ctx, pool, "list the views", (*view).fields, viewColumns+`
		  from tinydevcrm._find_matviews(
		           '', $1, $2, state => nullif($3, ''), sort => $4, is_descending => $5, row_offset => $6)`,
		found.Search, found.Limit(), found.State, found.Sort, found.IsDescending, found.Offset())
	if err != nil {
		return err
	}
	found.Views = kit.Cut(&found.List, found.Views)
	if err := s.readCharts(r, found.Views); err != nil {
		return err
	}
	found.Dropped, err = db.Collect(ctx, pool, "list the dropped views", (*dropped).fields, `
		select format('%I.%I', schema_name, name), dropped_by, left(query, 200), dropped_at
		  from tinydevcrm.dropped_matviews
		 where owner = quote_ident(current_user)::regrole
		 order by dropped_at desc
		 limit $1`, shownDropped)
	page.Shown = found
	return err
}

// listViews answers a program.
func (s *screen) listViews(w http.ResponseWriter, r *http.Request) {
	s.writeQuery(w, r, `
		select coalesce(json_agg(row_to_json(matview_status) order by relation::text), '[]')
		  from tinydevcrm.matview_status
		 where tinydevcrm._may_see(owner)`)
}

// writeQuery answers a program with the result of a query: one JSON value.
func (s *screen) writeQuery(w http.ResponseWriter, r *http.Request, query string, arguments ...any) {
	var result json.RawMessage
	if err := s.readJSON(r, &result, query, arguments...); err != nil {
		s.site.WriteProblem(w, r, err)
		return
	}
	s.site.WriteJSON(w, r, http.StatusOK, result)
}

// readJSON reads what a query returns: one JSON value.
func (s *screen) readJSON(r *http.Request, to any, query string, arguments ...any) error {
	ctx, cancel := contextOf(r)
	defer cancel()
	var result json.RawMessage
	if err := s.site.DB(ctx).QueryRowContext(ctx, query, arguments...).Scan(&result); err != nil {
		return fmt.Errorf("read for %s: %w", r.URL.Path, err)
	}
	if err := json.Unmarshal(result, to); err != nil {
		return fmt.Errorf("read for %s: %w", r.URL.Path, err)
	}
	return nil
}
