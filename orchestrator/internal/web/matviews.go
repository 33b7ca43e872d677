package web

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/kit"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/parts"
)

// shownMatviews is how many views the list shows. The others are found by a part of their name.
const shownMatviews = 20

// A matview is a row of tinydevcrm.matview_status, with more that the page needs.
type matview struct {
	ID int64
	// Key is its name with its schema, as in events. Relation is the name as psql would show it.
	Key, Relation      string
	NotifyWhen, Status string
	// NotifyInterval is empty when there is none.
	NotifyInterval string
	NotifyAfter    int
	MutedUntil     sql.NullTime
	// SuppressedBy is why the last refresh did not notify.
	SuppressedBy string
	// IgnoredColumns is a list of names, as written in SQL.
	IgnoredColumns string
	Schedule       string
	LateReason     string
	// RenamedRead says which renamed table it reads although there is a new one of the old name.
	RenamedRead     string
	IsTroubled      bool
	PlainReason     string
	ErrorMessage    string
	RowCount        sql.NullInt64
	LastRefreshedAt sql.NullTime
	// UntrackedReason is empty when its schedule refreshes it only after its tables have changed, and it can be
	// refreshed on change.
	UntrackedReason              string
	LastCheckedAt, LastChangedAt sql.NullTime
	// NotifyDeadline is empty when there is none.
	NotifyDeadline string
	NextDueAt      sql.NullTime
	FailingSince   sql.NullTime
	IsPaused       bool
	// Owner is the role that owns the view. IsOwn means that the user has logged in as that role. Only then
	// the page reads its rows and can change it.
	Owner string
	IsOwn bool
	// Origins are the sites that may show it as a widget.
	Origins []string
	Chart   parts.Chart

	isAsked, isListed bool
}

// fillMatviews reads the views whose names contain the search text, failing and newest ones first, and the
// chosen one.
func (s *server) fillMatviews(ctx context.Context, shown *page) error {
	asked := shown.Chosen.Get("matview")
	found, err := s.findMatviews(ctx, asked, shown.Chosen.Get("matviews"))
	if err != nil {
		return err
	}
	// The listed ones come first.
	listed := 0
	for listed < len(found) && found[listed].isListed {
		listed++
	}
	shown.Matviews = found[:min(listed, shownMatviews)]
	shown.HasMore.Matviews = listed > shownMatviews

	at := slices.IndexFunc(found, func(next matview) bool { return next.isAsked })
	switch {
	case at >= 0:
		shown.Matview = &found[at]
	case asked == "" && len(found) > 0:
		shown.Matview = &found[0]
	case asked != "":
		shown.setProblem(stepSchedule, db.Problem{
			Status:  http.StatusNotFound,
			Message: fmt.Sprintf("there is no watched materialized view %s", asked),
			Hint:    "Choose one of the list, or create it. To see a view of another role, log in as that role.",
		})
	}
	return nil
}

func (m *matview) fields() []any {
	return []any{&m.ID, &m.Key, &m.isAsked, &m.isListed, &m.IsOwn, &m.IsPaused, &m.NotifyInterval, &m.NotifyAfter, &m.MutedUntil, &m.SuppressedBy,
		&m.IgnoredColumns, pq.Array(&m.Origins), &m.Relation, &m.Owner, &m.NotifyWhen, &m.Status,
		&m.Schedule, &m.LateReason, &m.RenamedRead, &m.IsTroubled, &m.ErrorMessage, &m.RowCount, &m.LastRefreshedAt, &m.NextDueAt, &m.FailingSince,
		&m.UntrackedReason, &m.LastCheckedAt, &m.LastChangedAt, &m.NotifyDeadline}
}

const findMatviews = `
	select id,
	       key,
	       is_asked,
	       is_listed,
	       is_own,
	       is_paused,
	       notify_interval,
	       notify_after,
	       (matview).muted_until,
	       coalesce((matview).suppressed_by, ''),
	       ignored_columns,
	       origins,
	       (matview).relation::text,
	       (matview).owner::text,
	       (matview).notify_when,
	       (matview).status,
	       coalesce((matview).schedule, ''),
	       coalesce((matview).late_reason, ''),
	       coalesce((matview).renamed_read, ''),
	       (matview).is_troubled,
	       coalesce((matview).error_message, ''),
	       (matview).row_count,
	       (matview).last_refreshed_at,
	       (matview).next_due_at,
	       (matview).failing_since,
	       coalesce((matview).untracked_reason, ''),
	       (matview).last_checked_at,
	       (matview).last_changed_at,
	       coalesce((matview).notify_deadline::text, '')
	  from tinydevcrm._find_matviews($1, $2, $3)`

// findMatviews gives those to list, and after them the one that is asked for if it is not among them.
func (s *server) findMatviews(ctx context.Context, asked, part string) ([]matview, error) {
	found, err := db.Collect(ctx, s.pool(ctx), "list the materialized views", (*matview).fields,
		findMatviews, asked, part, shownMatviews+1)
	if err != nil {
		return nil, err
	}
	ids := make([]int64, len(found))
	for i, matview := range found {
		ids[i] = matview.ID
	}
	charts, err := parts.ReadCharts(ctx, s.pool(ctx), ids)
	for i, matview := range found {
		found[i].Chart = charts[matview.ID]
	}
	return found, err
}

func (s *server) createMatview(w http.ResponseWriter, r *http.Request) {
	s.run(w, r, action{
		step:     stepView,
		next:     stepSchedule,
		done:     "create",
		says:     "create a materialized view",
		required: []string{"name", "query"},
		query: `
			select json_build_object(
			           'relation', created.relation::text, 'notify_when', coalesce(suggested.notify_when, $3), 'reason', suggested.reason)
			  from tinydevcrm.create_matview(
			           name => $1,
			           query => $2,
			           notify_when => nullif($3, '')) as created (relation)
			  left join lateral tinydevcrm._suggest_rule(created.relation) as suggested
			    on nullif($3, '') is null`,
		fields: []string{"name", "query", "notify_when"},
		status: http.StatusCreated,
	})
}

// ofMatview is an action on an existing view. The query gets its name and then more fields.
func ofMatview(done, says, query string, fields ...string) action {
	return action{
		step:     stepSchedule,
		done:     done,
		says:     says + " a materialized view",
		required: []string{"relation"},
		named:    "relation",
		query:    query,
		fields:   append([]string{"relation"}, fields...),
		status:   http.StatusOK,
	}
}

// calling is the query of an action that returns only the name.
func calling(function string) string {
	return `
		select json_build_object('relation', $1::text)
		  from tinydevcrm.` + function + `($1::text::regclass)`
}

func (s *server) scheduleMatview(w http.ResponseWriter, r *http.Request) {
	scheduling := ofMatview("schedule", "schedule", `
		select row_to_json(scheduled)
		  from tinydevcrm.schedule_matview($1::text::regclass, $2) as scheduled`, "schedule")
	scheduling.required = append(scheduling.required, "schedule")
	scheduling.refreshes = true
	s.run(w, r, scheduling)
}

func (s *server) refreshMatview(w http.ResponseWriter, r *http.Request) {
	// In a session of another role than the owner's there is no event yet.
	refreshing := ofMatview("refresh", "refresh", `
		select case
		           when events.outcome is not null then tinydevcrm.event_json(events)
		           when not tinydevcrm._is_session_of(pg_class.relowner) then
		               json_build_object('relation', $1::text, 'is_requested', true)
		       end
		  from tinydevcrm.refresh_matview($1::text::regclass) as events
		  left join pg_catalog.pg_class
		    on pg_class.oid = $1::text::regclass`)
	refreshing.refreshes = true
	s.run(w, r, refreshing)
}

func (s *server) unscheduleMatview(w http.ResponseWriter, r *http.Request) {
	s.run(w, r, ofMatview("unschedule", "unschedule", calling("unschedule_matview")))
}

func (s *server) pauseMatview(w http.ResponseWriter, r *http.Request) {
	s.run(w, r, ofMatview("pause", "pause", calling("pause_matview")))
}

func (s *server) resumeMatview(w http.ResponseWriter, r *http.Request) {
	s.run(w, r, ofMatview("resume", "resume", calling("resume_matview")))
}

func (s *server) muteMatview(w http.ResponseWriter, r *http.Request) {
	muting := ofMatview("mute", "mute", `
		select json_build_object('relation', $1::text)
		  from tinydevcrm.mute_matview($1::text::regclass, now() + $2::interval)`, "mute_for")
	muting.required = append(muting.required, "mute_for")
	s.run(w, r, muting)
}

func (s *server) unmuteMatview(w http.ResponseWriter, r *http.Request) {
	s.run(w, r, ofMatview("unmute", "end the mute of", calling("unmute_matview")))
}

func (s *server) acceptTables(w http.ResponseWriter, r *http.Request) {
	s.run(w, r, ofMatview("accept", "accept the tables of", calling("accept_tables")))
}

func (s *server) dropMatview(w http.ResponseWriter, r *http.Request) {
	s.run(w, r, ofMatview("drop", "drop", calling("drop_matview")))
}

func (s *server) watchMatview(w http.ResponseWriter, r *http.Request) {
	// The ignored columns are a list, in which a name may be quoted as in SQL. A field that is not sent leaves
	// its setting as it is.
	watching := ofMatview("watch", "watch", `
		select json_build_object('relation', watched.relation::text)
		  from tinydevcrm.watch_matview(
		           relation => $1::text::regclass,
		           notify_when => $2,
		           ignored_columns => tinydevcrm._read_names($3),
		           notify_interval => case when $4 = '' then '0' else $4::text end::interval,
		           notify_after => case when $5 = '' then '1' else $5::text end::integer,
		           notify_deadline => case when $6 = '' then '0' else $6::text end::interval) as watched`,
		"notify_when", "ignored_columns", "notify_interval", "notify_after", "notify_deadline")
	s.run(w, r, watching)
}

func (s *server) listMatviews(w http.ResponseWriter, r *http.Request) {
	s.writeQuery(w, r, `
		select coalesce(json_agg(row_to_json(matview_status) order by relation::text), '[]')
		  from tinydevcrm.matview_status
		 where tinydevcrm._may_see(owner)`)
}

// writeQuery answers a program with the result of a query: one JSON value.
func (s *server) writeQuery(w http.ResponseWriter, r *http.Request, query string, arguments ...any) {
	ctx, cancel := timeoutOf(r)
	defer cancel()

	var result json.RawMessage
	if err := s.pool(ctx).QueryRowContext(ctx, query, arguments...).Scan(&result); err != nil {
		s.writeProblem(w, r, fmt.Errorf("read for %s: %w", r.URL.Path, err))
		return
	}
	s.writeJSON(w, r, http.StatusOK, result)
}

// findMatview finds a watched materialized view for its download.
func findMatview(ctx context.Context, tx *sql.Tx, names []string) (found parts.Relation, place int, err error) {
	err = tx.QueryRowContext(ctx, `
		select relation::oid::bigint, place, key, name, version
		  from tinydevcrm._describe_view($1)`, pq.Array(names)).
		Scan(&found.OID, &place, &found.Name, &found.BareName, &found.Version)
	return found, place, err
}

func (s *server) showMatview(w http.ResponseWriter, r *http.Request, name string) {
	s.site.Redirect(w, r, kit.Path("views", cmp.Or(name, r.PathValue("name"))))
}
