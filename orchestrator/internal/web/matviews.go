package web

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
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
	// IgnoredColumns is a list of names, as written in SQL.
	IgnoredColumns  string
	Schedule        string
	LateReason      string
	PlainReason     string
	ErrorMessage    string
	RowCount        sql.NullInt64
	LastRefreshedAt sql.NullTime
	NextDueAt       sql.NullTime
	FailingSince    sql.NullTime
	IsPaused        bool
	// Owner is the role that owns the view. IsOwn means that the user has logged in as that role. Only then
	// the page reads its rows and can change it.
	Owner string
	IsOwn bool
	// Origins are the sites that may show it as a widget.
	Origins []string
	Chart   chart
}

// fillMatviews reads the views whose names contain the search text, failing and newest ones first, and the
// chosen one.
func (s *server) fillMatviews(ctx context.Context, shown *page) error {
	asked := shown.Chosen.Get("matview")
	relations, listed, err := s.findMatviews(ctx, asked, shown.Chosen.Get("matviews"))
	if err != nil {
		return err
	}
	found, err := s.readMatviews(ctx, relations)
	if err != nil {
		return err
	}
	shown.Matviews = found[:min(listed, shownMatviews, len(found))]
	shown.HasMore.Matviews = listed > shownMatviews

	at := slices.IndexFunc(found, func(next matview) bool { return asked == next.Relation || asked == next.Key })
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

// findMatviews returns the relations to show: those of the list, and then the chosen one.
func (s *server) findMatviews(ctx context.Context, asked, part string) (relations []int64, listed int, err error) {
	err = s.pool(ctx).QueryRowContext(ctx, `
		with named as (
		    select matviews.id,
		           matviews.relation::oid,
		           matviews.failing_since is not null as is_failing,
		           matviews.relation::text as name,
		           format('%I.%I', nspname, relname) as key,
		           nspname || '.' || relname as plain_name
		      from tinydevcrm.matviews
		      join pg_catalog.pg_class
		        on pg_class.oid = matviews.relation
		      join pg_catalog.pg_namespace
		        on pg_namespace.oid = pg_class.relnamespace
		     where tinydevcrm._may_see(matviews.owner)
		),
		listed as (
		    select *
		      from named
		     where position(lower($2) in lower(plain_name)) > 0
		     order by is_failing desc, id desc
		     limit $3
		)
		select array(
		           select relation from listed
		            union all
		           select relation from named
		            where $1 in (name, key)
		              and relation not in (select relation from listed)),
		       (select count(*) from listed)`,
		asked, part, shownMatviews+1).Scan(pq.Array(&relations), &listed)
	if err != nil {
		return nil, 0, fmt.Errorf("find the materialized views: %w", err)
	}
	return relations, listed, nil
}

// readMatviews reads these relations, in their order.
func (s *server) readMatviews(ctx context.Context, relations []int64) ([]matview, error) {
	rows, err := s.pool(ctx).QueryContext(ctx, `
		select matviews.id,
		       format('%I.%I', nspname, relname),
		       matview_status.relation::text,
		       matview_status.notify_when,
		       matview_status.status,
		       coalesce(nullif(matviews.notify_interval, '0')::text, ''),
		       array_to_string(array(select quote_ident(name) from unnest(matviews.ignored_columns) as name), ', '),
		       matviews.is_paused,
		       matviews.owner::text,
		       tinydevcrm._is_session_of(pg_class.relowner),
		       coalesce(embeds.origins, '{}'),
		       coalesce(matview_status.schedule, ''),
		       coalesce(matview_status.late_reason, ''),
		       coalesce(matview_status.error_message, ''),
		       matview_status.row_count,
		       matview_status.last_refreshed_at,
		       matview_status.next_due_at,
		       matview_status.failing_since
		  from tinydevcrm.matview_status
		  join tinydevcrm.matviews
		    on matviews.relation = matview_status.relation
		  join pg_catalog.pg_class
		    on pg_class.oid = matviews.relation
		  join pg_catalog.pg_namespace
		    on pg_namespace.oid = pg_class.relnamespace
		  left join tinydevcrm.embeds
		    on embeds.matview_id = matviews.id
		   and embeds.owner = pg_class.relowner
		 where matview_status.relation = any ($1::oid[])
		 order by array_position($1::oid[], matview_status.relation::oid)`, pq.Array(relations))
	if err != nil {
		return nil, fmt.Errorf("list the materialized views: %w", err)
	}
	defer rows.Close()

	var matviews []matview
	for rows.Next() {
		var next matview
		if err := rows.Scan(&next.ID, &next.Key, &next.Relation, &next.NotifyWhen, &next.Status,
			&next.NotifyInterval, &next.IgnoredColumns, &next.IsPaused, &next.Owner, &next.IsOwn,
			pq.Array(&next.Origins), &next.Schedule,
			&next.LateReason, &next.ErrorMessage, &next.RowCount,
			&next.LastRefreshedAt, &next.NextDueAt, &next.FailingSince); err != nil {
			return nil, fmt.Errorf("list the materialized views: %w", err)
		}
		matviews = append(matviews, next)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list the materialized views: %w", err)
	}
	return matviews, s.readCharts(ctx, matviews)
}

func (s *server) createMatview(w http.ResponseWriter, r *http.Request) {
	s.run(w, r, action{
		step:     stepView,
		next:     stepSchedule,
		done:     "create",
		says:     "create a materialized view",
		required: []string{"name", "query"},
		query: `
			select json_build_object('relation', created.relation::text)
			  from tinydevcrm.create_matview(
			           name => $1,
			           query => $2,
			           notify_when => coalesce(nullif($3, ''), 'not_empty')) as created (relation)`,
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
		           ignored_columns => case
		               when $3::text is not null then array(
		                   select coalesce(replace(name[1], '""', '"'), btrim(name[2]))
		                     from regexp_matches($3, '"((?:[^"]|"")*)"|([^",]*[^", ][^",]*)', 'g') as name)
		           end,
		           notify_interval => case when $4 = '' then '0' else $4::text end::interval) as watched`,
		"notify_when", "ignored_columns", "notify_interval")
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
