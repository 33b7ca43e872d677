package web

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/kit"
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
	// shownRows is how many rows the page of a view shows. Its JSON and CSV have all.
	shownRows = 1000
	// fetchedRows is how many rows are fetched from the database at a time.
	fetchedRows = 500
)

// viewRows are the rows of a watched materialized view, with the transaction in which they are read.
type viewRows struct {
	// Relation is the name as psql would show it. Name includes the schema. Both are quoted where needed.
	Relation, Name, bareName  string
	Columns                   []column
	RefreshedAt, FailingSince sql.NullTime
	// Count is the number of all rows, for a format that shows only the first of them.
	Count int64

	form      rowForm
	tag       string
	statement string
	// cursor has a name of its own, so that a pooler in transaction mode cannot mix two downloads up.
	cursor string
	ctx    context.Context
	from   querier
}

// A querier is a connection, or a transaction on one.
type querier interface {
	QueryContext(ctx context.Context, query string, arguments ...any) (*sql.Rows, error)
}

// closeRows closes the cursor, which frees its rows on the server. When that fails, the connection is closed.
func closeRows(conn *sql.Conn, cursor string) {
	ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
	defer cancel()
	if _, err := conn.ExecContext(ctx, "close "+cursor); err != nil {
		_ = conn.Raw(func(any) error { return driver.ErrBadConn })
	}
}

// showRows returns the rows of a watched materialized view as JSON, CSV or a page: by the header Accept, or by
// the end of the address.
func (s *server) showRows(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Vary", "Accept")
	err := s.sendRows(w, r)
	if isLostCursor(err) {
		// Nothing has been sent yet.
		err = s.sendRows(w, r)
	}
	if err != nil {
		s.failRows(w, r, err)
	}
}

func (s *server) sendRows(w http.ResponseWriter, r *http.Request) error {
	release, err := s.site.TakeTransfer(r)
	if err != nil {
		return err
	}
	defer release()
	ctx, cancel := kit.TakeTime(r)
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
	if s.isPooled.Load() {
		rows.from = tx
		return s.writeRows(w, r, rows)
	}
	// The server stores the rows of the cursor at the commit. So no refresh waits for the client, however
	// slowly it reads.
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("read view %s: %w", rows.Name, err)
	}
	rows.from = conn
	defer closeRows(conn, rows.cursor)
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
	if isLostCursor(err) {
		s.isPooled.Store(true)
	}
	if err != nil && steady.hasBegun {
		// An incomplete answer must not look complete.
		s.Logger.WarnContext(r.Context(), "rows broke off", "path", r.URL.Path, "error", err)
		panic(http.ErrAbortHandler)
	}
	return err
}

// failRows answers with an error: as a page if the rows were to be a page.
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

// openRows finds the view of an address and the requested format. Opening the cursor checks that the user may
// read the view; it reads nothing yet.
func (s *server) openRows(ctx context.Context, tx *sql.Tx, r *http.Request) (*viewRows, error) {
	// The name of a view may itself end like a format.
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
	rows.tag = tagOf(version, rows.Columns, rows.form.suffix, rows.form.rowLimit, s.site.Look())
	statement := rows.statement
	if rows.form.rowLimit > 0 {
		statement += " limit " + strconv.Itoa(rows.form.rowLimit)
	}
	rows.cursor = "tinydevcrm_rows_" + strings.ToLower(rand.Text())
	hold := " no scroll cursor with hold for "
	if s.isPooled.Load() {
		hold = " no scroll cursor for "
	}
	if _, err := tx.ExecContext(ctx, "declare "+rows.cursor+hold+statement); err != nil {
		return nil, fmt.Errorf("open view %s: %w", rows.Name, err)
	}
	return rows, nil
}

// describeRows returns the columns of a relation, by oid or name, and the statement that reads its rows as
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

// all returns the rows. It fetches them in batches.
func (v *viewRows) all() iter.Seq2[[]sql.NullString, error] {
	return func(yield func([]sql.NullString, error) bool) {
		for count := fetchedRows; count == fetchedRows; {
			count = 0
			for values, err := range readRows(v.ctx, v.from, fmt.Sprintf("fetch %d from %s", fetchedRows, v.cursor)) {
				if !yield(values, err) || err != nil {
					return
				}
				count++
			}
		}
	}
}

// isLostCursor reports whether the session does not have our cursor: after the commit a pooler has given us another one.
func isLostCursor(err error) bool {
	var refusal *pq.Error
	return errors.As(err, &refusal) && refusal.Code == "34000"
}

// readRows returns the rows of a statement of describeRows. An error ends the sequence.
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

// attachment is a header for which a browser saves the answer as a file with this name.
func attachment(name string) string {
	safe := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || strings.ContainsRune(`/\:*?"<>|%`, r) {
			return '_'
		}
		return r
	}, name)
	return mime.FormatMediaType("attachment", map[string]string{"filename": safe})
}

// A steadyWriter lets an answer take up to runTimeout while the client keeps reading.
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
