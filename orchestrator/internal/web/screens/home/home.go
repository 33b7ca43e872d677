// Package home is the first screen: what needs attention, the views with their values, the latest events, and a search;
// for who is new, the steps from a file to a notification.
package home

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"net/http"
	"net/url"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/kit"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/parts"
)

//go:embed static templates
var files embed.FS

const (
	// shownTroubled is how many views, subscriptions and sources in trouble are listed of each kind, shownViews how many views,
	// shownEvents how many events, and shownFound how many names of each kind a search finds.
	shownTroubled = 10
	shownViews    = 12
	shownEvents   = 8
	shownFound    = 20
)

type screen struct {
	site   *kit.Site
	events *parts.Events
}

// New returns the screen.
func New(site *kit.Site, events *parts.Events) kit.Screen {
	s := &screen{site: site, events: events}
	pages := site.Load(files, parts.Files)
	return kit.Screen{
		Name: "Home",
		Path: "/",
		Routes: map[string]http.HandlerFunc{
			"GET /{$}": pages.Show("home.html", s.read),
			"POST /sample": site.Do(kit.Action{
				Name: "sample",
				Says: "create the sample",
				Query: `
					select json_build_object('relation', relation::text, 'matview', matview::text)
					  from tinydevcrm.create_sample()`,
				Status: http.StatusCreated,
				Screen: func(url.Values) string { return "/" },
			}),
		},
	}
}

// An overview holds the numbers that an owner checks first: a part of tinydevcrm.overview.
type overview struct {
	Views, Failing, Late, Silent, Renamed, NotPopulated, Unscheduled, Paused int64
	Subscriptions, Troubled                                                  int64
	Sources, TroubledSources                                                 int64
	Pending, Parked                                                          int64
	CronIsRunning                                                            bool
	HasTables                                                                bool
	// HasSubscription means one that is not the log of the program.
	HasSubscription bool
}

// hasTrouble spares a search in which nothing would be found.
func (o overview) hasTrouble() bool {
	return o.Failing+o.Late+o.Silent+o.Renamed+o.NotPopulated+o.Troubled+o.TroubledSources > 0
}

// A troubled one is a row of tinydevcrm._list_troubled().
type troubled struct {
	Kind, Key, Name, State, Reason string
	Since                          sql.NullTime
}

func (t *troubled) fields() []any {
	return []any{&t.Kind, &t.Key, &t.Name, &t.State, &t.Reason, &t.Since}
}

// A view is a row of tinydevcrm._find_matviews(), with a chart.
type view struct {
	ID                int64
	Key, Name, Status string
	IsTroubled        bool
	RowCount          sql.NullInt64
	LastRefreshedAt   sql.NullTime
	Chart             parts.Chart
}

func (v *view) fields() []any {
	return []any{&v.ID, &v.Key, &v.Name, &v.Status, &v.IsTroubled, &v.RowCount, &v.LastRefreshedAt}
}

// A find is a row of tinydevcrm._search().
type find struct{ Kind, Key, Name, Note string }

func (f *find) fields() []any { return []any{&f.Kind, &f.Key, &f.Name, &f.Note} }

// URL leads to the page of what was found.
func (f find) URL() string { return urlOf(f.Kind, f.Key) }

// URL leads to the page of what is in trouble.
func (t troubled) URL() string { return urlOf(t.Kind, t.Key) }

func urlOf(kind, key string) string { return kit.Path(kind+"s", key) }

// A step is one of those from a file to a notification.
type step struct {
	Name, Text, Button, URL string
	IsDone, IsNext          bool
}

type shown struct {
	Search   string
	Found    []find
	Overview overview
	Troubled []troubled
	Views    []view
	HasMore  bool
	Events   []parts.Event
}

func (s *screen) read(r *http.Request, page *kit.Page) (err error) {
	ctx := r.Context()
	home := &shown{Search: r.URL.Query().Get("search")}
	if home.Search != "" {
		page.Title = "Search"
		home.Found, err = db.Collect(ctx, s.site.DB(ctx), "search", (*find).fields, `
			select kind, key, coalesce(relation::text, key), coalesce(note, '')
			  from tinydevcrm._search($1, $2)`, home.Search, shownFound)
		page.Shown = home
		return err
	}
	page.Title = "Home"
	if err := s.readOverview(ctx, &home.Overview); err != nil {
		return err
	}
	if home.Overview.hasTrouble() {
		if home.Troubled, err = db.Collect(ctx, s.site.DB(ctx), "list what needs attention", (*troubled).fields, `
			select kind, key, coalesce(relation::text, key), state, reason, since
			  from tinydevcrm._list_troubled($1)`, shownTroubled); err != nil {
			return err
		}
	}
	if home.Views, err = s.readViews(ctx); err != nil {
		return err
	}
	home.HasMore = len(home.Views) > shownViews
	home.Views = home.Views[:min(len(home.Views), shownViews)]
	home.Events, err = s.events.ReadForPage(ctx, parts.Latest, 0, shownEvents, "", "", 0)
	page.Shown = home
	return err
}

func (s *screen) readOverview(ctx context.Context, o *overview) error {
	err := s.site.DB(ctx).QueryRowContext(ctx, `
		select view_count,
		       failing_count,
		       late_count,
		       silent_count,
		       renamed_count,
		       not_populated_count,
		       unscheduled_count,
		       paused_count,
		       subscription_count,
		       troubled_subscription_count,
		       source_count,
		       troubled_source_count,
		       pending_count,
		       parked_count,
		       cron_is_running,
		       exists (select from tinydevcrm._list_tables('', row_limit => 1)),
		       exists (
		           select
		             from tinydevcrm.subscriptions
		            where tinydevcrm._may_see(owner)
		              and tinydevcrm._subscription_kind(subscriptions) <> 'log'
		       )
		  from tinydevcrm.overview`).Scan(
		&o.Views, &o.Failing, &o.Late, &o.Silent, &o.Renamed, &o.NotPopulated, &o.Unscheduled, &o.Paused,
		&o.Subscriptions, &o.Troubled, &o.Sources, &o.TroubledSources, &o.Pending, &o.Parked, &o.CronIsRunning, &o.HasTables, &o.HasSubscription)
	if err != nil {
		return fmt.Errorf("read the overview: %w", err)
	}
	return nil
}

func (s *screen) readViews(ctx context.Context) ([]view, error) {
	views, err := db.Collect(ctx, s.site.DB(ctx), "list the materialized views", (*view).fields, `
		select id,
		       key,
		       (matview).relation::text,
		       (matview).status,
		       (matview).is_troubled,
		       (matview).row_count,
		       (matview).last_refreshed_at
		  from tinydevcrm._find_matviews('', '', $1)`, shownViews+1)
	if err != nil {
		return nil, err
	}
	ids := make([]int64, len(views))
	for i, view := range views {
		ids[i] = view.ID
	}
	charts, err := parts.ReadCharts(ctx, s.site.DB(ctx), ids)
	for i, view := range views {
		views[i].Chart = charts[view.ID]
	}
	return views, err
}

// Steps are those from a file to a notification; none once the user has done them.
func (s shown) Steps() []step {
	o := s.Overview
	hasSchedule := o.Views > o.Unscheduled
	if hasSchedule && o.Subscriptions > 0 {
		return nil
	}
	schedule := step{Name: "Schedule it", Text: "By the clock, or when its tables change.", Button: "Schedule", URL: "/views", IsDone: hasSchedule}
	if len(s.Views) > 0 {
		schedule.URL = kit.Path("views", s.Views[0].Key)
	}
	steps := []step{
		{Name: "Upload a file", Text: "CSV and the like. You see its columns and types before anything is loaded.", Button: "Upload", URL: "/upload", IsDone: o.HasTables},
		{Name: "Look at the table", Text: "Its columns, its types, its rows.", Button: "Look", URL: "/tables", IsDone: o.Views > 0},
		{Name: "Ask a question of it", Text: "A query in SQL becomes a view: its rows are the answer.", Button: "Write a query", URL: "/views/new", IsDone: o.Views > 0},
		schedule,
		{Name: "Be notified", Text: "By webhook, chat or e-mail, or on the page of events.", Button: "Subscribe", URL: "/subscriptions/new", IsDone: o.HasSubscription},
	}
	for i := range steps {
		if !steps[i].IsDone {
			steps[i].IsNext = true
			break
		}
	}
	return steps
}

// IsNew means that the user has nothing yet.
func (s shown) IsNew() bool { return !s.Overview.HasTables && s.Overview.Views == 0 }
