package web

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"iter"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/lib/pq"
)

const (
	// shownRows are as many as the page of a view shows; its JSON and CSV have all.
	shownRows = 1000
	// fetchedRows come from the database at once.
	fetchedRows = 500
)

// viewRows are the rows of a watched materialized view, open to be read in the transaction.
type viewRows struct {
	// Relation is as psql would show it; Name has its schema, and both are quoted where needed.
	Relation, Name, bareName  string
	Columns                   []column
	RefreshedAt, FailingSince sql.NullTime
	// Count is how many there are, for a form that shows only the first of them.
	Count int64

	form      rowForm
	tag       string
	statement string
	ctx       context.Context
	from      querier
}

// A querier is a connection, or a transaction on one.
type querier interface {
	QueryContext(ctx context.Context, query string, arguments ...any) (*sql.Rows, error)
}

// closeRows gives back what the server has put aside. A connection that cannot is not used again.
func closeRows(conn *sql.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
	defer cancel()
	if _, err := conn.ExecContext(ctx, "close tinydevcrm_rows"); err != nil {
		_ = conn.Raw(func(any) error { return driver.ErrBadConn })
	}
}

// showRows gives the rows of a watched materialized view as JSON, CSV or a page: by Accept, or by how the
// address ends.
func (s *server) showRows(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Vary", "Accept")
	if err := s.sendRows(w, r); err != nil {
		s.failRows(w, r, err)
	}
}

func (s *server) sendRows(w http.ResponseWriter, r *http.Request) error {
	release, err := s.takeTransfer(r)
	if err != nil {
		return err
	}
	defer release()
	ctx, cancel := takeTime(r)
	defer cancel()
	conn, err := s.pool(ctx).Conn(ctx)
	if err != nil {
		return fmt.Errorf("begin to read a view: %w", err)
	}
	defer conn.Close()
	tx, err := conn.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return fmt.Errorf("begin to read a view: %w", err)
	}
	defer tx.Rollback()
	rows, err := s.openRows(ctx, tx, r)
	if err != nil {
		return err
	}

	header := w.Header()
	header.Set("Cache-Control", "private, no-cache")
	header.Set("ETag", rows.tag)
	if isKnown(r, rows.tag) {
		s.write(w, r, http.StatusNotModified, rows.form.contentType, nil)
		return nil
	}
	if rows.form.isFile {
		header.Set("Content-Disposition", attachment(rows.bareName+rows.form.suffix))
	}
	if r.Method == http.MethodHead {
		s.write(w, r, http.StatusOK, rows.form.contentType, nil)
		return nil
	}
	if rows.form.rowLimit > 0 {
		counting := "select pg_catalog.count(*) from (" + rows.statement + ") as counted"
		if err := tx.QueryRowContext(ctx, counting).Scan(&rows.Count); err != nil {
			return fmt.Errorf("count the rows of %s: %w", rows.Name, err)
		}
	}
	// The server puts the rows aside, and whoever takes them, however slowly, keeps no refresh waiting.
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("read view %s: %w", rows.Name, err)
	}
	rows.from = conn
	defer closeRows(conn)
	return s.writeRows(w, r, rows)
}

func (s *server) writeRows(w http.ResponseWriter, r *http.Request, rows *viewRows) error {
	w.Header().Set("Content-Type", rows.form.contentType)
	steady := &steadyWriter{ResponseWriter: w, control: http.NewResponseController(w)}
	body := bufio.NewWriterSize(steady, 32<<10)
	err := rows.form.write(s, body, rows)
	if err == nil {
		err = body.Flush()
	}
	if err != nil && steady.hasBegun {
		// What is half there must not look whole.
		s.Logger.WarnContext(r.Context(), "rows broke off", "path", r.URL.Path, "error", err)
		panic(http.ErrAbortHandler)
	}
	return err
}

// failRows answers with an error: as a page to those who would have got one.
func (s *server) failRows(w http.ResponseWriter, r *http.Request, err error) {
	for _, name := range []string{"ETag", "Content-Disposition"} {
		w.Header().Del(name)
	}
	w.Header().Set("Cache-Control", "no-store")
	if chooseForm(r).suffix != ".html" && !strings.HasSuffix(r.URL.Path, ".html") {
		s.writeProblem(w, r, err)
		return
	}
	problem := s.explain(r, err)
	var body bytes.Buffer
	if err := s.templates.ExecuteTemplate(&body, "rows.html", rowsPage{Problem: &problem}); err != nil {
		s.writeProblem(w, r, fmt.Errorf("render the rows' page: %w", err))
		return
	}
	s.write(w, r, problem.Status, "text/html; charset=utf-8", body.Bytes())
}

const (
	// readAsItIs has the rows come in the order in which they stand, and waits for no refresh.
	readAsItIs   = "set local synchronize_seqscans = off; set local lock_timeout = '5s'"
	describeView = `
	select relation::oid::bigint, place, relation::text, key, name, refreshed_at, failing_since, version
	  from tinydevcrm._describe_view($1)`
)

// openRows finds the view of an address, and what it is asked for as. To open its rows is enough to learn
// whether the user may read them; nothing is read yet.
func (s *server) openRows(ctx context.Context, tx *sql.Tx, r *http.Request) (*viewRows, error) {
	// The name of a view may end like an address itself.
	asked := r.PathValue("name")
	names, bySuffix := []string{asked}, rowForm{}
	for _, form := range rowForms() {
		if name, isSo := strings.CutSuffix(asked, form.suffix); isSo {
			names, bySuffix = append(names, name), form
		}
	}

	rows := &viewRows{form: chooseForm(r), ctx: ctx}
	var oid, place int64
	var version string
	if _, err := tx.ExecContext(ctx, readAsItIs); err != nil {
		return nil, fmt.Errorf("begin to read view %q: %w", asked, err)
	}
	err := tx.QueryRowContext(ctx, describeView, pq.Array(names)).
		Scan(&oid, &place, &rows.Relation, &rows.Name, &rows.bareName, &rows.RefreshedAt, &rows.FailingSince, &version)
	if err != nil {
		return nil, fmt.Errorf("find view %q: %w", asked, err)
	}
	if place > 1 {
		rows.form = bySuffix
	}

	rows.Columns, rows.statement, err = describeRows(ctx, tx, oid, rows.form.isJSON, rows.form.cellLimit)
	if err != nil {
		return nil, fmt.Errorf("describe view %s: %w", rows.Name, err)
	}
	rows.tag = tagOf(version, rows.Columns, rows.form.suffix, rows.form.rowLimit, s.look)
	statement := rows.statement
	if rows.form.rowLimit > 0 {
		statement += " limit " + strconv.Itoa(rows.form.rowLimit)
	}
	if _, err := tx.ExecContext(ctx, "declare tinydevcrm_rows no scroll cursor with hold for "+statement); err != nil {
		return nil, fmt.Errorf("open view %s: %w", rows.Name, err)
	}
	return rows, nil
}

// describeRows gives the columns of a relation, by oid or name, and the statement that reads its rows as
// arrays of text, in this transaction.
func describeRows(ctx context.Context, tx *sql.Tx, relation any, isJSON bool, cellLimit sql.Null[int]) (
	columns []column, statement string, err error) {
	var names, types []string
	err = tx.QueryRowContext(ctx, `
		select names, types, statement
		  from tinydevcrm._build_rows_statement($1, $2, $3)`,
		fmt.Sprint(relation), isJSON, cellLimit).
		Scan(pq.Array(&names), pq.Array(&types), &statement)
	for i, name := range names {
		columns = append(columns, column{Name: name, Type: types[i]})
	}
	return columns, statement, err
}

// all reads the rows, a batch at a time.
func (v *viewRows) all() iter.Seq2[[]sql.NullString, error] {
	return func(yield func([]sql.NullString, error) bool) {
		for count := fetchedRows; count == fetchedRows; {
			count = 0
			for values, err := range readRows(v.ctx, v.from, fmt.Sprintf("fetch %d from tinydevcrm_rows", fetchedRows)) {
				if !yield(values, err) || err != nil {
					return
				}
				count++
			}
		}
	}
}

// readRows gives what a statement of describeRows reads. An error is the last that comes.
func readRows(ctx context.Context, from querier, statement string) iter.Seq2[[]sql.NullString, error] {
	return func(yield func([]sql.NullString, error) bool) {
		rows, err := from.QueryContext(ctx, statement)
		if err != nil {
			yield(nil, fmt.Errorf("read rows: %w", err))
			return
		}
		defer rows.Close()
		for rows.Next() {
			var values []sql.NullString
			if err := rows.Scan(pq.Array(&values)); err != nil {
				yield(nil, fmt.Errorf("read a row: %w", err))
				return
			}
			if !yield(values, nil) {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(nil, fmt.Errorf("read rows: %w", err))
		}
	}
}

// attachment is the header that has a browser keep an answer as a file of this name.
func attachment(name string) string {
	safe := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || strings.ContainsRune(`/\:*?"<>|%`, r) {
			return '_'
		}
		return r
	}, name)
	return mime.FormatMediaType("attachment", map[string]string{"filename": safe})
}

// A steadyWriter lets an answer take as long as runTimeout while the client keeps taking it.
type steadyWriter struct {
	http.ResponseWriter
	control  *http.ResponseController
	hasBegun bool
}

func (w *steadyWriter) Write(p []byte) (int, error) {
	w.hasBegun = true
	_ = w.control.SetWriteDeadline(time.Now().Add(writeTimeout))
	return w.ResponseWriter.Write(p)
}
