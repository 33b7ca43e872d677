package web

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/kit"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/parts"
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

type cell = kit.Cell

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
	columnCount       int
	names, types      []string
}

func (f *foundTable) fields() []any {
	return []any{&f.Key, &f.Relation, &f.Name, &f.ImportID, &f.Source, &f.Mode, pq.Array(&f.UpsertKey),
		&f.DistributeBy, &f.Distribution, &f.Dialect.HasHeader, &f.Dialect.Delimiter, &f.Dialect.Quote,
		&f.Dialect.Escape, &f.Dialect.Encoding, &f.Dialect.SkipLines, &f.RowCount, &f.RepairCount,
		pq.Array(&f.Notices), &f.FinishedAt, &f.isAsked, &f.isListed, &f.columnCount, pq.Array(&f.names), pq.Array(&f.types)}
}

// findTables are rows of tinydevcrm._find_tables(), with the defaults of a file without a dialect.
const findTables = `
	select key,
	       (imported).relation::text,
	       (imported).table_name,
	       (imported).import_id,
	       (imported).source,
	       (imported).mode,
	       coalesce((imported).key, '{}'),
	       coalesce((imported).distribute_by, ''),
	       coalesce((imported).distribution, ''),
	       coalesce(((imported).dialect).has_header, true),
	       coalesce(((imported).dialect).delimiter, ','),
	       case when ((imported).dialect).delimiter is null then '"' else coalesce(((imported).dialect).quote, '') end,
	       coalesce(((imported).dialect).escape, ((imported).dialect).quote, '"'),
	       coalesce(((imported).dialect).encoding, 'UTF8'),
	       coalesce(((imported).dialect).skip_lines, 0),
	       (imported).row_count,
	       (imported).problem_count,
	       (imported).notices,
	       (imported).finished_at,
	       is_asked,
	       is_listed,
	       column_count,
	       column_names,
	       column_types
	  from tinydevcrm._find_tables($1, $2, $3, $4)`

// readTables finds the newest tables whose names have a part, and first the one of a name: schema.name,
// quoted or not.
func (s *server) readTables(ctx context.Context, name, part string) ([]foundTable, error) {
	tables, err := db.Collect(ctx, s.pool(ctx), "list the tables", (*foundTable).fields,
		findTables, name, part, shownTables+2, columnsAtHand)
	for i := range tables {
		found := &tables[i]
		found.MoreColumns = found.columnCount - len(found.names)
		for j, name := range found.names {
			found.AtHand = append(found.AtHand, column{Name: name, Type: found.types[j]})
		}
	}
	return tables, err
}

// readRepairs reads the first repaired lines of a table's file.
func (s *server) readRepairs(ctx context.Context, table *table) error {
	if table.RepairCount == 0 {
		return nil
	}
	var err error
	table.Repairs, err = db.Collect(ctx, s.pool(ctx), "read the repaired lines",
		func(line *db.Line) []any { return []any{&line.Number, &line.Reason, &line.Text} }, `
		select line, reason, left(line_text, $2)
		  from tinydevcrm.import_problems
		 where import_id = $1
		 order by id
		 limit $3`, table.ImportID, maxCell, shownRepairs)
	return err
}

// readContents reads the columns of a table and its first rows.
func (s *server) readContents(ctx context.Context, table *table) error {
	found, err := parts.ReadRows(ctx, s.pool(ctx), table.Key, &url.URL{}, 10)
	if err != nil {
		return err
	}
	for _, next := range found.Columns {
		table.Columns = append(table.Columns, column{Name: next.Name, Type: next.Type})
	}
	table.Rows = found.Lines
	return nil
}
