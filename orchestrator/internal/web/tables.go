package web

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"time"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

const (
	// shownTables is how many tables the list shows. The others are found by a part of their name.
	shownTables = 20
	// maxCell is how many characters of a value are shown, shownRepairs how many repaired lines.
	maxCell      = 200
	shownRepairs = 20
	// columnsAtHand is how many columns of each table the list beside the query shows.
	columnsAtHand = 30
)

// A table is a table that an import has created.
type table struct {
	// Key is its name with its schema, quoted where needed. Relation is the name as psql would show it.
	Key, Relation string
	Name          string
	ImportID      int64
	Source, Mode  string
	UpsertKey     []string
	// DistributeBy is the column that the import was given to distribute the table by. Distribution describes
	// how Citus distributes it across the workers; empty when it does not.
	DistributeBy, Distribution string
	Dialect                    dialect
	RowCount                   int64
	// RepairCount is the number of lines of the file in import_problems, Repairs the first of these lines.
	RepairCount int64
	Repairs     []db.Line
	// Notices are what the import did not do, though the user may expect it.
	Notices    []string
	FinishedAt time.Time

	// AtHand are the first columns, with names as a query writes them. Columns are all columns, Rows the first
	// rows.
	AtHand []column
	// MoreColumns is the number of columns that are not in AtHand.
	MoreColumns int
	Columns     []column
	Rows        [][]cell
}

type column struct{ Name, Type string }

// A cell is a value as text. NULL is not the empty text.
type cell struct {
	Text   string
	IsNull bool
}

// fillTables reads the imported tables that exist, newest first, and the columns and rows of the chosen one.
func (s *server) fillTables(ctx context.Context, shown *page) error {
	asked := shown.Chosen.Get("table")
	tables, err := s.readTables(ctx, asked, shown.Chosen.Get("tables"))
	if err != nil {
		return err
	}

	// The chosen table comes first, whether or not it is in the list.
	if len(tables) > 0 && (asked == "" || tables[0].isAsked) {
		shown.Table = &tables[0].table
	}
	for i, found := range tables {
		if !found.isListed {
			continue
		}
		if len(shown.Tables) == shownTables {
			shown.HasMore.Tables = true
			break
		}
		shown.Tables = append(shown.Tables, tables[i].table)
	}
	if shown.Table == nil && asked != "" {
		shown.setProblem(stepTables, db.Problem{
			Status:  http.StatusNotFound,
			Message: fmt.Sprintf("there is no imported table %s of yours", asked),
			Hint:    "Choose one of the list, or upload its file. To see a table of another role, log in as that role.",
		})
	}
	if shown.Table == nil {
		return nil
	}
	// This comes last, because a table that is being replaced is locked.
	if err := s.readRepairs(ctx, shown.Table); err != nil {
		return err
	}
	return s.readContents(ctx, shown.Table)
}

type foundTable struct {
	table
	isAsked, isListed bool
}

// newestTables returns the tables whose names contain the second parameter, and the one with the name in the
// first. They are only tables of the session's own role: code that others have put into a table's indexes would
// run as the role that plans a read of it.
const newestTables = `
	with newest as (
	    select distinct on (schema_name, table_name)
	           imports.*,
	           $1 in (
	               format('%I.%I', schema_name, table_name),
	               schema_name || '.' || table_name) as is_asked,
	           position(lower($2) in lower(schema_name || '.' || table_name)) > 0 as is_listed
	      from tinydevcrm.imports
	     where finished_at is not null
	     order by schema_name, table_name, id desc
	)
	select format('%I.%I', newest.schema_name, newest.table_name),
	       pg_class.oid::regclass::text,
	       newest.table_name,
	       newest.id,
	       newest.source,
	       newest.mode,
	       coalesce(newest.key, '{}'),
	       coalesce(newest.distribute_by, ''),
	       coalesce(newest.distribution, ''),
	       coalesce(newest.dialect is not null and (newest.dialect).has_header, true),
	       coalesce((newest.dialect).delimiter, ','),
	       coalesce((newest.dialect).quote, '"'),
	       coalesce((newest.dialect).escape, (newest.dialect).quote, '"'),
	       coalesce((newest.dialect).encoding, 'UTF8'),
	       coalesce((newest.dialect).skip_lines, 0),
	       newest.row_count,
	       newest.problem_count,
	       newest.notices,
	       newest.finished_at,
	       newest.is_asked,
	       newest.is_listed,
	       (
	           select count(*)
	             from pg_catalog.pg_attribute
	            where attrelid = pg_class.oid and attnum > 0 and not attisdropped
	       ),
	       array(
	           select quote_ident(attname)
	             from pg_catalog.pg_attribute
	            where attrelid = pg_class.oid and attnum > 0 and not attisdropped
	            order by attnum
	            limit $4),
	       array(
	           select format_type(atttypid, atttypmod)
	             from pg_catalog.pg_attribute
	            where attrelid = pg_class.oid and attnum > 0 and not attisdropped
	            order by attnum
	            limit $4)
	  from newest
	  join pg_catalog.pg_namespace
	    on pg_namespace.nspname = newest.schema_name
	  join pg_catalog.pg_class
	    on pg_class.relnamespace = pg_namespace.oid
	   and pg_class.relname = newest.table_name
	 where (newest.is_asked or newest.is_listed)
	   and pg_class.relkind in ('r', 'p')
	   and tinydevcrm._is_session_of(pg_class.relowner)
	 order by newest.is_asked desc, newest.id desc
	 limit $3`

// readTables finds the newest tables whose names contain the search text, and the one with a given name:
// schema.name, quoted or not.
func (s *server) readTables(ctx context.Context, name, part string) ([]foundTable, error) {
	rows, err := s.pool(ctx).QueryContext(ctx, newestTables, name, part, shownTables+2, columnsAtHand)
	if err != nil {
		return nil, fmt.Errorf("list the tables: %w", err)
	}
	defer rows.Close()

	var tables []foundTable
	for rows.Next() {
		var next foundTable
		var count int
		var names, types []string
		if err := rows.Scan(&next.Key, &next.Relation, &next.Name, &next.ImportID, &next.Source, &next.Mode,
			pq.Array(&next.UpsertKey), &next.DistributeBy, &next.Distribution, &next.Dialect.HasHeader, &next.Dialect.Delimiter, &next.Dialect.Quote,
			&next.Dialect.Escape, &next.Dialect.Encoding, &next.Dialect.SkipLines,
			&next.RowCount, &next.RepairCount, pq.Array(&next.Notices), &next.FinishedAt, &next.isAsked, &next.isListed,
			&count, pq.Array(&names), pq.Array(&types)); err != nil {
			return nil, fmt.Errorf("list the tables: %w", err)
		}
		next.MoreColumns = count - len(names)
		for i, name := range names {
			next.AtHand = append(next.AtHand, column{Name: name, Type: types[i]})
		}
		tables = append(tables, next)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list the tables: %w", err)
	}
	return tables, nil
}

// readRepairs reads the first repaired lines of a table's file.
func (s *server) readRepairs(ctx context.Context, table *table) error {
	if table.RepairCount == 0 {
		return nil
	}
	rows, err := s.pool(ctx).QueryContext(ctx, `
		select line,
		       reason,
		       left(line_text, $2)
		  from tinydevcrm.import_problems
		 where import_id = $1
		 order by id
		 limit $3`, table.ImportID, maxCell, shownRepairs)
	if err != nil {
		return fmt.Errorf("read the repaired lines: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var line db.Line
		if err := rows.Scan(&line.Number, &line.Reason, &line.Text); err != nil {
			return fmt.Errorf("read the repaired lines: %w", err)
		}
		table.Repairs = append(table.Repairs, line)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read the repaired lines: %w", err)
	}
	return nil
}

// readContents reads the columns of a table and its first rows.
func (s *server) readContents(ctx context.Context, table *table) error {
	tx, err := s.pool(ctx).BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return fmt.Errorf("begin to read %s: %w", table.Key, err)
	}
	defer tx.Rollback()

	if _, err := tx.ExecContext(ctx, readAsItIs); err != nil {
		return fmt.Errorf("begin to read %s: %w", table.Key, err)
	}
	columns, statement, err := describeRows(ctx, tx, table.Key, false, sql.Null[int]{V: maxCell + 1, Valid: true})
	if err != nil {
		return fmt.Errorf("read the columns of %s: %w", table.Key, err)
	}
	table.Columns = columns
	for values, err := range readRows(ctx, tx, statement+" limit 10") {
		if err != nil {
			return fmt.Errorf("read the first rows of %s: %w", table.Key, err)
		}
		table.Rows = append(table.Rows, cellsOf(values))
	}
	return nil
}

// shorten cuts a text to the length that the page shows.
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
