package uploads

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/kit"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/words"
)

const (
	shownImports = 50
	shownLines   = 50
)

// An imported is an import of the log. Key is the table's name with its schema, empty when there is no page of it;
// Table is the name as psql would show it.
type imported struct {
	ID     int64  `json:"id"`
	Source string `json:"source"`
	// SourceName is the source that fetched the file; empty for an upload.
	SourceName   string    `json:"source_name"`
	Mode         string    `json:"mode"`
	UpsertKey    []string  `json:"upsert_key"`
	Key          string    `json:"key"`
	Table        string    `json:"table"`
	BareName     string    `json:"-"`
	RowCount     int64     `json:"row_count"`
	ByteCount    *int64    `json:"byte_count"`
	ProblemCount int64     `json:"problem_count"`
	RejectCount  int64     `json:"reject_count"`
	RewriteCount int64     `json:"rewrite_count"`
	DistributeBy string    `json:"distribute_by"`
	Distribution string    `json:"distribution"`
	Notices      []string  `json:"notices"`
	StartedAt    time.Time `json:"started_at"`
	FinishedAt   time.Time `json:"finished_at"`
	// Dialect is null for an import from a staging table.
	Dialect json.RawMessage `json:"dialect"`
	Columns json.RawMessage `json:"columns"`
}

func (i *imported) fields() []any {
	return []any{&i.ID, &i.Source, &i.Mode, pq.Array(&i.UpsertKey), &i.Key, &i.Table, &i.BareName, &i.RowCount, &i.ByteCount,
		&i.ProblemCount, &i.RejectCount, &i.RewriteCount, &i.DistributeBy, &i.Distribution, pq.Array(&i.Notices), &i.StartedAt,
		&i.FinishedAt, &i.Dialect, &i.Columns, &i.SourceName}
}

// Format is what people call the format of the file; empty for an import from a staging table.
func (i imported) Format() (string, error) {
	var dialect upload.Dialect
	err := json.Unmarshal(i.Dialect, &dialect)
	return dialect.Label(), err
}

// Took is how long it took.
func (i imported) Took() string { return words.Duration(i.FinishedAt.Sub(i.StartedAt)) }

// findImports finds imports by a part of the names of their file or table, or one by its number.
func (s *screen) findImports(ctx context.Context, part string, id any, limit, offset int) ([]imported, error) {
	return db.Collect(ctx, s.site.DB(ctx), "list the imports", (*imported).fields, `
		select (imported).id,
		       (imported).source,
		       (imported).mode,
		       coalesce((imported).key, '{}'),
		       coalesce(key, ''),
		       coalesce(relation::text, tinydevcrm._target(imported)),
		       (imported).table_name::text,
		       (imported).row_count,
		       (imported).byte_count,
		       (imported).problem_count,
		       (imported).reject_count,
		       (imported).rewrite_count,
		       coalesce((imported).distribute_by, ''),
		       coalesce((imported).distribution, ''),
		       (imported).notices,
		       (imported).started_at,
		       (imported).finished_at,
		       coalesce(to_jsonb((imported).dialect), 'null'),
		       (imported).columns,
		       coalesce(source_name, '')
		  from tinydevcrm._list_imports($1, $2, $3, $4)`, part, id, limit, offset)
}

type list struct {
	kit.List
	Imports []imported
}

func (s *screen) findPage(r *http.Request) (*list, error) {
	found := &list{List: kit.ListOf(r.URL, shownImports)}
	imports, err := s.findImports(r.Context(), found.Search, nil, found.Limit(), found.Offset())
	found.Imports = kit.Cut(&found.List, imports)
	return found, err
}

func (s *screen) readImports(r *http.Request, shown *kit.Page) error {
	shown.Title = "Imports"
	shown.Crumbs = []kit.Link{{Name: "Upload", URL: page}}
	found, err := s.findPage(r)
	if err != nil {
		return err
	}
	shown.Shown = found
	return nil
}

// listImports answers a program.
func (s *screen) listImports(w http.ResponseWriter, r *http.Request) {
	found, err := s.findPage(r)
	if err != nil {
		s.site.WriteProblem(w, r, err)
		return
	}
	s.site.WriteJSON(w, r, http.StatusOK, append([]imported{}, found.Imports...))
}

func (s *screen) findImport(r *http.Request) (*imported, error) {
	name := r.PathValue("id")
	missing := &db.UserError{
		Status:  http.StatusNotFound,
		Code:    "TD001",
		Message: fmt.Sprintf("there is no import %s of yours", name),
		Hint:    "tinydevcrm.imports lists the imports that succeeded.",
	}
	id, err := strconv.ParseInt(name, 10, 64)
	if err != nil {
		return nil, missing
	}
	found, err := s.findImports(r.Context(), "", id, 1, 0)
	if err == nil && len(found) == 0 {
		err = missing
	}
	if err != nil {
		return nil, err
	}
	return &found[0], nil
}

// showImport answers a program.
func (s *screen) showImport(w http.ResponseWriter, r *http.Request) {
	found, err := s.findImport(r)
	if err != nil {
		s.site.WriteProblem(w, r, err)
		return
	}
	s.site.WriteJSON(w, r, http.StatusOK, found)
}

// A line of a file that was repaired or left out.
type line struct {
	db.Line
	IsRejected bool
}

func (l *line) fields() []any { return []any{&l.Number, &l.Reason, &l.Text, &l.IsRejected} }

// A detail is what the page of an import shows.
type detail struct {
	kit.List
	Import imported
	Recipe recipe
	Lines  []line
}

func (s *screen) readImport(r *http.Request, shown *kit.Page) error {
	shown.Title = "Import " + r.PathValue("id")
	shown.Crumbs = []kit.Link{{Name: "Upload", URL: page}, {Name: "Imports", URL: "/imports"}}
	found, err := s.findImport(r)
	if err != nil {
		return err
	}
	d := &detail{Import: *found, List: kit.ListOf(r.URL, shownLines)}
	if d.Recipe, err = recipeOf(*found); err != nil {
		return err
	}
	lines, err := db.Collect(r.Context(), s.site.DB(r.Context()), "read the lines of an import", (*line).fields, `
		select line, reason, left(line_text, $2), is_rejected
		  from tinydevcrm.import_problems
		 where import_id = $1
		 order by id
		 limit $3
		offset $4`, found.ID, kit.MaxCell, d.Limit(), d.Offset())
	d.Lines = kit.Cut(&d.List, lines)
	shown.Shown = d
	return err
}

// recipeOf is how the import can be repeated in psql.
func recipeOf(found imported) (recipe, error) {
	again := recipe{Source: found.Source, Table: found.BareName, Mode: found.Mode, UpsertKey: found.UpsertKey,
		DistributeBy: found.DistributeBy}
	if again.Mode == "create" {
		// The table exists by now.
		again.Mode = "replace"
	}
	if err := json.Unmarshal(found.Dialect, &again.Dialect); err != nil {
		return recipe{}, fmt.Errorf("read the dialect of import %d: %w", found.ID, err)
	}
	if err := json.Unmarshal(found.Columns, &again.Columns); err != nil {
		return recipe{}, fmt.Errorf("read the columns of import %d: %w", found.ID, err)
	}
	return again, nil
}
