// Package tables is the screen of the user's own tables: their rows, their columns, and what is done with them.
package tables

import (
	"cmp"
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/kit"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/parts"
)

//go:embed static templates
var files embed.FS

const (
	shownTables  = 50
	shownRows    = 50
	shownImports = 10
)

type screen struct{ site *kit.Site }

// New returns the screen.
func New(site *kit.Site, downloads *parts.Downloads) kit.Screen {
	s := &screen{site: site}
	pages := site.Load(files, parts.Files)
	show := pages.Show("table.html", s.readTable)
	page := func(w http.ResponseWriter, r *http.Request, name string) {
		r.SetPathValue("name", cmp.Or(name, r.PathValue("name")))
		show(w, r)
	}
	return kit.Screen{
		Name: "Tables",
		Path: "/tables",
		Routes: map[string]http.HandlerFunc{
			"GET /tables":                kit.ByAccept(pages.Show("list.html", s.readList), s.listTables),
			"GET /tables/{name}":         downloads.Serve(findTable, page),
			"GET /tables/{name}/columns": pages.Show("columns.html", s.readColumns),
			"POST /tables/rename": site.Do(kit.Action{
				Name: "rename", Says: "rename the table", At: "rename",
				Required: []string{"relation", "name"}, Fields: []string{"relation", "name"}, Named: "relation",
				Query:  "select json_build_object('table', tinydevcrm._rename_table($1::text::regclass, $2))",
				Screen: pageOf,
				Next:   func(_ url.Values, made map[string]any) string { return kit.Path("tables", fmt.Sprint(made["table"])) },
			}),
			"POST /tables/drop": site.Do(kit.Action{
				Name: "drop", Says: "drop the table", At: "drop",
				Required: []string{"relation"}, Fields: []string{"relation", "with_dependents"}, Named: "relation",
				Query: `
					select json_build_object('table', $1)
					  from tinydevcrm._drop_table($1::text::regclass, coalesce($2 = 'true', false))`,
				Screen: pageOf,
				Next:   func(url.Values, map[string]any) string { return "/tables" },
			}),
		},
	}
}

// pageOf is the page of the table that a form names.
func pageOf(form url.Values) string { return kit.Path("tables", form.Get("relation")) }

// A listed is a table in the list. Key is its name with its schema, Relation the name as psql would show it.
type listed struct {
	Key         string `json:"key"`
	Relation    string `json:"relation"`
	RowEstimate *int64 `json:"row_estimate"`
	// ByteCount is nil while the table is locked.
	ByteCount    *int64     `json:"byte_count"`
	MatviewCount int64      `json:"matview_count"`
	Source       *string    `json:"source"`
	FinishedAt   *time.Time `json:"finished_at"`
}

func (l *listed) fields() []any {
	return []any{&l.Key, &l.Relation, &l.RowEstimate, &l.ByteCount, &l.MatviewCount, &l.Source, &l.FinishedAt}
}

type list struct {
	kit.List
	Tables []listed
}

func (s *screen) findTables(r *http.Request) (*list, error) {
	found := &list{List: kit.ListOf(r.URL, shownTables, "name", "rows", "views")}
	tables, err := db.Collect(r.Context(), s.site.DB(r.Context()), "list the tables", (*listed).fields, `
		select key, relation::text, row_estimate, byte_count, matview_count, source, finished_at
		  from tinydevcrm._list_tables($1, $2, $3, $4, $5)`,
		found.Search, found.Sort, found.IsDescending, found.Limit(), found.Offset())
	found.Tables = kit.Cut(&found.List, tables)
	return found, err
}

func (s *screen) readList(r *http.Request, page *kit.Page) error {
	page.Title = "Tables"
	found, err := s.findTables(r)
	if err != nil {
		return err
	}
	page.Shown = found
	return nil
}

// listTables answers a program.
func (s *screen) listTables(w http.ResponseWriter, r *http.Request) {
	found, err := s.findTables(r)
	if err != nil {
		s.site.WriteProblem(w, r, err)
		return
	}
	s.site.WriteJSON(w, r, http.StatusOK, append([]listed{}, found.Tables...))
}

const describeTable = `
	select relation::oid::bigint, place, key, relation::text, name, byte_count, coalesce(description, ''),
	       coalesce(distribution, '')
	  from tinydevcrm._describe_table($1)`

// A table is what the page of a table shows.
type table struct {
	parts.Relation
	// Shown is the name as psql would show it.
	Shown string
	// ByteCount is nil while the table is locked.
	ByteCount                 *int64
	Description, Distribution string

	Rows       *parts.Rows
	Sources    []source
	Imports    []imported
	Dependents []dependent
}

func (t *table) fields(place *int) []any {
	return []any{&t.OID, place, &t.Name, &t.Shown, &t.BareName, &t.ByteCount, &t.Description, &t.Distribution}
}

// findTable finds a table for its download. It has no version: nothing changes with each write.
func findTable(ctx context.Context, tx *sql.Tx, names []string) (found parts.Relation, place int, err error) {
	var t table
	err = tx.QueryRowContext(ctx, describeTable, pq.Array(names)).Scan(t.fields(&place)...)
	if errors.Is(err, sql.ErrNoRows) {
		err = noTable(names[0])
	}
	return t.Relation, place, err
}

func noTable(name string) error {
	return &db.UserError{
		Status:  http.StatusNotFound,
		Code:    "TD001",
		Message: fmt.Sprintf("there is no table %s of yours", name),
		Hint:    "The list of tables has those that you own. To see a table of another role, log in as that role.",
	}
}

// A source fills a table.
type source struct {
	Name, Schedule, State string
	IsTroubled            bool
}

func (s *source) fields() []any { return []any{&s.Name, &s.Schedule, &s.State, &s.IsTroubled} }

// An imported is an import into a table.
type imported struct {
	ID                     int64
	Source, Mode           string
	RowCount, ProblemCount int64
	FinishedAt             time.Time
	Notices                []string
}

func (i *imported) fields() []any {
	return []any{&i.ID, &i.Source, &i.Mode, &i.RowCount, &i.ProblemCount, &i.FinishedAt, pq.Array(&i.Notices)}
}

// A dependent is what is dropped together with a table. Key is empty for what is not a watched view.
type dependent struct {
	Kind, Name, Key   string
	SubscriptionCount int64
}

func (d *dependent) fields() []any { return []any{&d.Kind, &d.Name, &d.Key, &d.SubscriptionCount} }

// describe reads what the pages of a table have in common.
func (s *screen) describe(r *http.Request, page *kit.Page) (*table, error) {
	name := r.PathValue("name")
	page.Title = name
	page.Crumbs = []kit.Link{{Name: "Tables", URL: "/tables"}}
	var t table
	var place int
	err := s.site.DB(r.Context()).QueryRowContext(r.Context(), describeTable, pq.Array([]string{name})).Scan(t.fields(&place)...)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, noTable(name)
	}
	if err != nil {
		return nil, fmt.Errorf("find table %s: %w", name, err)
	}
	page.Title = t.Shown
	return &t, nil
}

func (s *screen) readTable(r *http.Request, page *kit.Page) error {
	ctx, pool := r.Context(), s.site.DB(r.Context())
	t, err := s.describe(r, page)
	if err != nil {
		return err
	}
	t.Sources, err = db.Collect(ctx, pool, "list the sources of a table", (*source).fields, `
		select name, coalesce(schedule, ''), state, is_troubled
		  from tinydevcrm._list_sources_of($1)`, t.Name)
	if err != nil {
		return err
	}
	// An import that replaced the table by another one left the imports before it with a table that is gone.
	t.Imports, err = db.Collect(ctx, pool, "list the imports of a table", (*imported).fields, `
		select id, source, mode, row_count, problem_count, finished_at, notices
		  from tinydevcrm.imports
		 where finished_at is not null
		   and (
		       relation = $1::bigint::oid
		       or format('%I.%I', schema_name, table_name) = $2
		          and not exists (select from pg_catalog.pg_class where pg_class.oid = imports.relation)
		   )
		 order by id desc
		 limit $3`, t.OID, t.Name, shownImports)
	if err != nil {
		return err
	}
	t.Dependents, err = db.Collect(ctx, pool, "list what depends on a table", (*dependent).fields, `
		select kind, coalesce(constraint_name || coalesce(' of ' || relation::text, ''), relation::text),
		       coalesce(key, ''), subscription_count
		  from tinydevcrm._list_dropped_with($1::bigint::oid)`, t.OID)
	if err != nil {
		return err
	}
	page.Shown = t
	// This comes last, because a table that is being replaced is locked. With a wrong filter, the rest is shown.
	t.Rows, err = parts.ReadRows(ctx, pool, t.Name, r.URL, shownRows)
	return err
}

// A summary is what is in a column.
type summary struct {
	Name, Type                                   string
	IsNumber                                     bool
	RowLimit, RowCount, NullCount, DistinctCount int64
	Lowest, Highest                              sql.NullString
	values                                       []string
	counts                                       []int64
}

func (c *summary) fields() []any {
	return []any{&c.Name, &c.Type, &c.IsNumber, &c.RowLimit, &c.RowCount, &c.NullCount, &c.DistinctCount, &c.Lowest, &c.Highest,
		pq.Array(&c.values), pq.Array(&c.counts)}
}

// A frequency is how often a value occurs.
type frequency struct {
	Value string
	Count int64
}

// Frequent are the most frequent values, if any occurs twice.
func (c summary) Frequent() (frequent []frequency) {
	for i, value := range c.values {
		if c.counts[i] > 1 {
			frequent = append(frequent, frequency{value, c.counts[i]})
		}
	}
	return frequent
}

type columns struct {
	*table
	Columns []summary
}

func (s *screen) readColumns(r *http.Request, page *kit.Page) error {
	t, err := s.describe(r, page)
	if err != nil {
		return err
	}
	page.Title = "Columns of " + t.Shown
	page.Crumbs = append(page.Crumbs, kit.Link{Name: t.Shown, URL: kit.Path("tables", t.Name)})
	found, err := db.Collect(r.Context(), s.site.DB(r.Context()), "look at the columns of a table", (*summary).fields, `
		select name, type, is_number, row_limit, row_count, null_count, distinct_count, lowest, highest, frequent, frequencies
		  from tinydevcrm._summarize_columns($1::bigint::oid)`, t.OID)
	if err != nil {
		return err
	}
	page.Shown = &columns{table: t, Columns: found}
	return nil
}
