package views

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/kit"
)

const (
	// previewTimeout bounds the preview of a query.
	previewTimeout = 30 * time.Second
	// previewedRows is how many rows a preview shows at most.
	previewedRows = 10
	// tablesAtHand are listed beside the editor, each with columnsAtHand. The editor completes knownTables names of
	// tables and views, each with knownColumns.
	tablesAtHand, columnsAtHand = 8, 12
	knownTables, knownColumns   = 1000, 100
	// previewField is where the input after a preview has its result.
	previewField = "previewed"
)

// A column of a query or table.
type column struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

// IsNumber means that its values are at the right.
func (c column) IsNumber() bool {
	return slices.Contains([]string{"smallint", "integer", "bigint", "real", "double precision", "numeric", "money"}, c.Type)
}

// A preview holds the columns and the first rows of a query.
type preview struct {
	Columns []column    `json:"columns"`
	Rows    [][]*string `json:"rows"`
}

// Cells are the values of a row.
func (p preview) Cells(row []*string) []kit.Cell {
	cells := make([]kit.Cell, len(row))
	for i, value := range row {
		cells[i].IsNumber = p.Columns[i].IsNumber()
		if value == nil {
			cells[i].IsNull = true
			continue
		}
		cells[i].Text = kit.Shorten(*value)
	}
	return cells
}

// A named relation is a row of tinydevcrm._list_names().
type named struct {
	Relation string   `json:"relation"`
	Columns  []string `json:"columns"`
	Types    []string `json:"types"`
}

func (n *named) fields() []any { return []any{&n.Relation, pq.Array(&n.Columns), pq.Array(&n.Types)} }

func (s *screen) readNames(ctx context.Context, tables, columns int) ([]named, error) {
	return db.Collect(ctx, s.site.DB(ctx), "list tables and columns", (*named).fields, `
		select relation::text, columns, types
		  from tinydevcrm._list_names($1, $2)`, tables, columns)
}

// listNames serves what the editor completes.
func (s *screen) listNames(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := contextOf(r)
	defer cancel()
	names, err := s.readNames(ctx, knownTables, knownColumns)
	if err != nil {
		s.site.WriteProblem(w, r, err)
		return
	}
	s.site.WriteJSON(w, r, http.StatusOK, names)
}

// An editor is what the pages with a query show.
type editor struct {
	// View is the view whose query is edited; nil for a new one.
	View *view
	// Name and Query are what the form shows at first, NotifyWhen the rule.
	Name, Query, NotifyWhen string
	Tables                  []named
	Rules                   []notifyRule
	Preview                 *preview
	// Columns are those that the view has now.
	Columns []column
}

// IsFull means that the query may have more rows than its preview.
func (e editor) IsFull() bool { return len(e.Preview.Rows) >= previewedRows }

// RulesOrNone is what the form of a new view shows.
func (e editor) RulesOrNone(chosen string) ruleChoice {
	return ruleChoice{Rules: e.Rules, Chosen: chosen, Suggests: true}
}

// A change is how a column differs between the view and the preview of its new query.
type change struct{ Name, Before, After string }

// Changes are the columns that the new query adds, takes away, or gives another type.
func (e editor) Changes() (changes []change) {
	if e.View == nil || e.Preview == nil {
		return nil
	}
	types := func(columns []column) map[string]string {
		found := map[string]string{}
		for _, column := range columns {
			found[column.Name] = column.Type
		}
		return found
	}
	before, after := types(e.Columns), types(e.Preview.Columns)
	all := maps.Clone(before)
	maps.Copy(all, after)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if before[name] != after[name] {
			changes = append(changes, change{name, before[name], after[name]})
		}
	}
	return changes
}

// readEditor reads what both editors show.
func (s *screen) readEditor(r *http.Request, page *kit.Page) (shown *editor, err error) {
	shown = &editor{}
	if page.HasDone("preview") {
		shown.Preview = &preview{}
		if err := json.Unmarshal([]byte(page.Flash.Form.Get(previewField)), shown.Preview); err != nil {
			return nil, fmt.Errorf("read a preview: %w", err)
		}
	}
	shown.Tables, err = s.readNames(r.Context(), tablesAtHand, columnsAtHand)
	return shown, err
}

func (s *screen) readNew(r *http.Request, page *kit.Page) error {
	ctx, pool := r.Context(), s.site.DB(r.Context())
	page.Title = "New view"
	page.Crumbs = []kit.Link{{Name: "Views", URL: "/views"}}
	shown, err := s.readEditor(r, page)
	if err != nil {
		return err
	}
	if shown.Rules, err = s.readRules(ctx); err != nil {
		return err
	}
	// A query of the table that is asked for, or else of the newest one.
	var relation string
	var columns []string
	err = pool.QueryRowContext(ctx, `
		select relation::text,
		       tinydevcrm._find_unused_name(name || '_now'),
		       array(
		           select attname::text
		             from pg_catalog.pg_attribute
		            where attrelid = relation
		              and attnum > 0
		              and not attisdropped
		            limit 2
		       )
		  from tinydevcrm._describe_table(
		           array[coalesce(
		               nullif($1, ''),
		               (select key from tinydevcrm._list_tables('', row_limit => 1)))])`, r.URL.Query().Get("table")).
		Scan(&relation, &shown.Name, pq.Array(&columns))
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("suggest a query: %w", err)
	}
	if err == nil {
		shown.Query = "select *\n  from " + relation
	}
	if slices.Equal(columns, []string{"AColumnOfNumbers"}) {
		shown.Query += "\n where \"AColumnOfNumbers\" = floor(extract(second from now()))::integer % 10"
		shown.NotifyWhen = "not_empty"
	}
	page.Shown = shown
	return nil
}

func (s *screen) readEdit(r *http.Request, page *kit.Page) error {
	ctx, pool := r.Context(), s.site.DB(r.Context())
	found, err := s.findOne(r, page)
	if err != nil {
		return err
	}
	page.Title = "Query of " + found.Relation
	page.Crumbs = append(page.Crumbs, kit.Link{Name: found.Relation, URL: kit.Path("views", found.Key)})
	if !found.IsOwn {
		return &db.UserError{
			Status:  http.StatusForbidden,
			Message: fmt.Sprintf("view %s belongs to %s", found.Relation, found.Owner),
			Hint:    "Log in as that role to change its query.",
		}
	}
	shown, err := s.readEditor(r, page)
	if err != nil {
		return err
	}
	shown.View = found
	err = pool.QueryRowContext(ctx, "select tinydevcrm._show_query($1::text::regclass)", found.Key).Scan(&shown.Query)
	if err != nil {
		return fmt.Errorf("read the query of %s: %w", found.Key, err)
	}
	shown.Columns, err = db.Collect(ctx, pool, "read the columns of a view", func(c *column) []any { return []any{&c.Name, &c.Type} }, `
		select attname::text, format_type(atttypid, atttypmod)
		  from pg_catalog.pg_attribute
		 where attrelid = $1::text::regclass
		   and attnum > 0
		   and not attisdropped`, found.Key)
	page.Shown = shown
	return err
}

// editorOf is the page of the editor that a form was on.
func editorOf(form url.Values) string {
	if relation := form.Get("relation"); relation != "" {
		return kit.Path("views", relation, "edit")
	}
	return "/views/new"
}

// previewQuery runs a query for its first rows, and rolls back everything else that it does.
func (s *screen) previewQuery(w http.ResponseWriter, r *http.Request) {
	err := kit.ReadForm(w, r, "query")
	var result json.RawMessage
	if err == nil {
		result, err = s.runPreview(r, r.PostForm.Get("query"))
	}
	switch {
	case !kit.WantsPage(r) && err != nil:
		s.site.WriteProblem(w, r, err)
	case !kit.WantsPage(r):
		s.site.WriteJSON(w, r, http.StatusOK, result)
	case err != nil:
		s.site.Refuse(w, r, editorOf(r.PostForm), "editor", err)
	default:
		to := editorOf(r.PostForm)
		r.PostForm.Set(previewField, string(result))
		s.site.LeaveFlash(w, r, to, kit.Flash{Done: "preview", Form: r.PostForm})
		s.site.Redirect(w, r, to+"#result")
	}
}

func (s *screen) runPreview(r *http.Request, query string) (json.RawMessage, error) {
	release, err := s.site.TakeAction(r)
	if err != nil {
		return nil, err
	}
	defer release()
	ctx, cancel := context.WithTimeout(r.Context(), previewTimeout)
	defer cancel()

	conn, err := s.site.DB(ctx).Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("preview a query: %w", err)
	}
	defer conn.Close()
	defer forget(conn)
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("preview a query: %w", err)
	}
	defer tx.Rollback()
	var result json.RawMessage
	err = tx.QueryRowContext(ctx, `
		select row_to_json(previewed)
		  from tinydevcrm.preview_query($1, $2) as previewed`, query, previewedRows).Scan(&result)
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return nil, &db.UserError{
			Status:  http.StatusGatewayTimeout,
			Message: fmt.Sprintf("the first rows took longer than %s", previewTimeout),
			Hint:    "Narrow the query down, or create the view: a refresh may take longer.",
		}
	}
	if err != nil {
		return nil, fmt.Errorf("preview a query: %w", err)
	}
	return result, nil
}

// forget removes what a query may have left in its session. When that fails, the connection is closed.
func forget(conn *sql.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), kit.ReadTimeout)
	defer cancel()
	if _, err := conn.ExecContext(ctx, "discard all"); err != nil {
		_ = conn.Raw(func(any) error { return driver.ErrBadConn })
	}
}
