package web

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/lib/pq"
)

const (
	// maxTables bounds the list of tables, maxCell the characters shown of a value.
	maxTables = 500
	maxCell   = 200
)

// A table is one that an import made.
type table struct {
	// Key is its name with its schema, quoted where needed; Relation is as psql would show it.
	Key, Relation string
	Name          string
	Source, Mode  string
	RowCount      int64
	// Repaired are the lines of the file that import_problems tells of.
	Repaired   int64
	Took       time.Duration
	FinishedAt time.Time

	Columns []column
	Rows    [][]cell
}

type column struct{ Name, Type string }

// A cell is a value as text; NULL is not the empty one.
type cell struct {
	Text   string
	IsNull bool
}

// A matview is a row of tinydevcrm.matview_status.
type matview struct {
	Relation, NotifyWhen, Status string
	Schedule, ErrorMessage       string
	RowCount                     sql.NullInt64
	LastRefreshedAt              sql.NullTime
}

// readTables lists the tables that imports made and that are still there, newest first. A table may
// be asked for as schema.name, quoted or not; the empty name asks for the newest.
func (s *server) readTables(ctx context.Context, name string) (tables []table, selected int, err error) {
	rows, err := s.pool(ctx).QueryContext(ctx, `
		with newest as (
		    select distinct on (schema_name, table_name)
		           id,
		           schema_name,
		           table_name,
		           source,
		           mode,
		           row_count,
		           problem_count,
		           extract(epoch from finished_at - started_at)::double precision as seconds,
		           finished_at
		      from tinydevcrm.imports
		     where finished_at is not null
		     order by schema_name, table_name, id desc
		)
		select format('%I.%I', newest.schema_name, newest.table_name),
		       pg_class.oid::regclass::text,
		       newest.table_name,
		       newest.source,
		       newest.mode,
		       newest.row_count,
		       newest.problem_count,
		       newest.seconds,
		       newest.finished_at,
		       $1 in (
		           format('%I.%I', newest.schema_name, newest.table_name),
		           newest.schema_name || '.' || newest.table_name)
		  from newest
		  join pg_catalog.pg_namespace
		    on pg_namespace.nspname = newest.schema_name
		  join pg_catalog.pg_class
		    on pg_class.relnamespace = pg_namespace.oid
		   and pg_class.relname = newest.table_name
		 where pg_class.relkind in ('r', 'p')
		   and has_table_privilege(pg_class.oid, 'select')
		 order by newest.id desc
		 limit $2`, name, maxTables)
	if err != nil {
		return nil, -1, fmt.Errorf("list the tables: %w", err)
	}
	defer rows.Close()

	selected = -1
	for rows.Next() {
		var (
			next    table
			isAsked bool
			seconds float64
		)
		if err := rows.Scan(&next.Key, &next.Relation, &next.Name, &next.Source, &next.Mode,
			&next.RowCount, &next.Repaired, &seconds, &next.FinishedAt, &isAsked); err != nil {
			return nil, -1, fmt.Errorf("list the tables: %w", err)
		}
		next.Took = time.Duration(seconds * float64(time.Second)).Round(time.Millisecond)
		if selected < 0 && (isAsked || name == "") {
			selected = len(tables)
		}
		tables = append(tables, next)
	}
	if err := rows.Err(); err != nil {
		return nil, -1, fmt.Errorf("list the tables: %w", err)
	}
	return tables, selected, nil
}

// readContents reads the columns of a table and its first rows. It prints them by format(), which
// uses output functions: a cast to text may be one that the owner of a type has made, and would run
// with the rights of whoever looks.
func (s *server) readContents(ctx context.Context, table *table) error {
	var names, types []string
	var statement string
	err := s.pool(ctx).QueryRowContext(ctx, `
		select coalesce(array_agg(attname::text order by attnum), '{}'),
		       coalesce(array_agg(format_type(atttypid, atttypmod) order by attnum), '{}'),
		       format(
		           'select array[%s]::text[] from %s limit 10',
		           string_agg(
		               format(
		                   'case num_nulls(%1$I) when 0 then left(format(%2$L, %1$I), %3$s) end',
		                   attname, '%s', $2::integer),
		               ', ' order by attnum),
		           $1::text::regclass)
		  from pg_catalog.pg_attribute
		 where attrelid = $1::text::regclass
		   and attnum > 0
		   and not attisdropped`, table.Key, maxCell+1).
		Scan(pq.Array(&names), pq.Array(&types), &statement)
	if err != nil {
		return fmt.Errorf("read the columns of %s: %w", table.Key, err)
	}
	for i, name := range names {
		table.Columns = append(table.Columns, column{Name: name, Type: types[i]})
	}

	rows, err := s.pool(ctx).QueryContext(ctx, statement)
	if err != nil {
		return fmt.Errorf("read the first rows of %s: %w", table.Key, err)
	}
	defer rows.Close()

	for rows.Next() {
		var values []sql.NullString
		if err := rows.Scan(pq.Array(&values)); err != nil {
			return fmt.Errorf("read the first rows of %s: %w", table.Key, err)
		}
		row := make([]cell, len(values))
		for i, value := range values {
			row[i] = cell{Text: shorten(value.String), IsNull: !value.Valid}
		}
		table.Rows = append(table.Rows, row)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read the first rows of %s: %w", table.Key, err)
	}
	return nil
}

// shorten cuts a text that is longer than the page shows.
func shorten(text string) string {
	count := 0
	for at := range text {
		if count == maxCell {
			return text[:at] + "…"
		}
		count++
	}
	return text
}

func (s *server) readMatviews(ctx context.Context) ([]matview, error) {
	rows, err := s.pool(ctx).QueryContext(ctx, `
		select relation::text,
		       notify_when,
		       status,
		       coalesce(schedule, ''),
		       coalesce(error_message, ''),
		       row_count,
		       last_refreshed_at
		  from tinydevcrm.matview_status
		 order by relation::text`)
	if err != nil {
		return nil, fmt.Errorf("list the materialized views: %w", err)
	}
	defer rows.Close()

	var matviews []matview
	for rows.Next() {
		var next matview
		if err := rows.Scan(&next.Relation, &next.NotifyWhen, &next.Status, &next.Schedule,
			&next.ErrorMessage, &next.RowCount, &next.LastRefreshedAt); err != nil {
			return nil, fmt.Errorf("list the materialized views: %w", err)
		}
		matviews = append(matviews, next)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list the materialized views: %w", err)
	}
	return matviews, nil
}

// An event is a row of tinydevcrm.matview_refresh_events, as tinydevcrm.event_json() gives it.
type event struct {
	ID           int64     `json:"id"`
	Outcome      string    `json:"outcome"`
	IsTold       bool      `json:"is_told"`
	Matview      string    `json:"matview"`
	RowCount     *int64    `json:"row_count"`
	AddedCount   *int64    `json:"added_count"`
	RemovedCount *int64    `json:"removed_count"`
	Rows         rowList   `json:"rows"`
	ErrorCode    string    `json:"error_code"`
	ErrorMessage string    `json:"error_message"`
	StartedAt    time.Time `json:"started_at"`
	DurationMS   float64   `json:"duration_ms"`
}

// A rowList is what an event carries. A user can write events of their own views: one that carries
// something else shows none.
type rowList []map[string]json.RawMessage

func (l *rowList) UnmarshalJSON(data []byte) error {
	var rows []map[string]json.RawMessage
	if err := json.Unmarshal(data, &rows); err == nil {
		*l = rows
	}
	return nil
}

// latestEvents gives the last told events that a reader may see, with an id above the second parameter and
// as many as the third says, newest first.
const latestEvents = `
	select events.id,
	       tinydevcrm.event_json(events)
	  from tinydevcrm._latest_events(nullif($1, ''), $2, $3) as events`

// numberedEvents gives those events of these ids that a reader may see.
const numberedEvents = `
	select events.id,
	       tinydevcrm.event_json(events)
	  from tinydevcrm._numbered_events(nullif($1, ''), $2) as events`

// A message is an event on its way: its id, and the JSON of it on one line.
type message struct {
	id   int64
	data json.RawMessage
}

// readEvents reads by the orchestrator's own pool, so that open pages hold no connections, and for the user
// who asks.
func (s *server) readEvents(ctx context.Context, query string, arguments ...any) ([]message, error) {
	rows, err := s.Pool.QueryContext(ctx, query, append([]any{s.session(ctx).user}, arguments...)...)
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	defer rows.Close()

	messages := []message{}
	for rows.Next() {
		var next message
		if err := rows.Scan(&next.id, &next.data); err != nil {
			return nil, fmt.Errorf("read events: %w", err)
		}
		messages = append(messages, next)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	return messages, nil
}
