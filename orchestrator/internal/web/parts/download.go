package parts

import (
	"bufio"
	"context"
	"crypto/rand"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/kit"
)

// fetchedRows is how many rows are fetched from the database at a time.
const fetchedRows = 500

// A Relation is a table or materialized view whose rows are downloaded.
type Relation struct {
	OID int64
	// Name includes the schema, quoted where needed. BareName is that of the file.
	Name, BareName string
	// Version changes with the rows; empty when that is not known.
	Version string
}

// A FindFunc finds the first relation that has one of these names, and the place of that name in the list, from 1.
type FindFunc func(ctx context.Context, tx *sql.Tx, names []string) (found Relation, place int, err error)

// Downloads send all rows of a table or view.
type Downloads struct {
	site *kit.Site
	// isPooled means that a pooler in transaction mode has lost a cursor after its transaction. From then on rows are
	// read in their transaction, and a refresh waits for a client that reads slowly.
	isPooled atomic.Bool
}

// NewDownloads returns the downloads of a site.
func NewDownloads(site *kit.Site) *Downloads { return &Downloads{site: site} }

// Serve sends the rows of the relation that the address names, as JSON, CSV or Parquet: by the header Accept, or by the end of
// the address. Its parameters are those of ReadRows, without the page. Browsers get a page if the address does not name
// a format.
func (d *Downloads) Serve(find FindFunc, page func(w http.ResponseWriter, r *http.Request, name string)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Vary", "Accept")
		if chooseForm(r).isPage && !endsLikeAForm(r.PathValue("name")) {
			// A page waits for no turn.
			page(w, r, "")
			return
		}
		shown, err := d.send(w, r, find)
		if isLostCursor(err) {
			// Nothing has been sent yet.
			shown, err = d.send(w, r, find)
		}
		if shown != "" || err != nil && chooseForm(r).isPage {
			page(w, r, shown)
			return
		}
		if err != nil {
			for _, name := range []string{"ETag", "Content-Disposition"} {
				w.Header().Del(name)
			}
			w.Header().Set("Cache-Control", "no-store")
			d.site.WriteProblem(w, r, err)
		}
	}
}

// send sends the rows, or returns the name of the relation if a page is wanted.
func (d *Downloads) send(w http.ResponseWriter, r *http.Request, find FindFunc) (shown string, err error) {
	release, err := d.site.TakeTransfer(r)
	if err != nil {
		return "", err
	}
	defer release()
	ctx, cancel := kit.TakeTime(r)
	defer cancel()
	conn, err := d.site.DB(ctx).Conn(ctx)
	if err != nil {
		return "", fmt.Errorf("begin to read rows: %w", err)
	}
	defer conn.Close()
	tx, err := conn.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return "", fmt.Errorf("begin to read rows: %w", err)
	}
	defer tx.Rollback()
	rows, err := d.open(ctx, tx, r, find)
	if err != nil {
		return "", err
	}
	if rows.form.isPage {
		return rows.Name, nil
	}

	header := w.Header()
	header.Set("Cache-Control", "no-store")
	if rows.tag != "" {
		header.Set("Cache-Control", "private, no-cache")
		header.Set("ETag", rows.tag)
	}
	if rows.tag != "" && kit.IsKnown(r, rows.tag) {
		d.site.Write(w, r, http.StatusNotModified, rows.form.contentType, nil)
		return "", nil
	}
	if rows.form.isFile {
		header.Set("Content-Disposition", kit.Attachment(rows.BareName+rows.form.suffix))
	}
	if r.Method == http.MethodHead {
		d.site.Write(w, r, http.StatusOK, rows.form.contentType, nil)
		return "", nil
	}
	if rows.form.isExact {
		if err := rows.chooseTypes(ctx, tx); err != nil {
			return "", err
		}
	}
	if d.isPooled.Load() {
		rows.from = tx
		return "", d.write(w, r, rows)
	}
	// The server stores the rows of the cursor at the commit. So no refresh waits for the client, however
	// slowly it reads.
	if err := tx.Commit(); err != nil {
		return "", fmt.Errorf("read %s: %w", rows.Name, err)
	}
	rows.from = conn
	defer closeRows(conn, rows.cursor)
	return "", d.write(w, r, rows)
}

func (d *Downloads) write(w http.ResponseWriter, r *http.Request, rows *download) error {
	w.Header().Set("Content-Type", rows.form.contentType)
	steady := kit.NewSteadyWriter(w)
	body := bufio.NewWriterSize(steady, 32<<10)
	err := rows.form.write(body, rows)
	if err == nil {
		err = body.Flush()
	}
	if isLostCursor(err) {
		d.isPooled.Store(true)
	}
	if err != nil && steady.HasBegun {
		// An incomplete answer must not look complete.
		d.site.Logger.WarnContext(r.Context(), "rows broke off", "path", r.URL.Path, "error", err)
		panic(http.ErrAbortHandler)
	}
	return err
}

// A download is the rows that are being sent, with the transaction or connection that they are read from.
type download struct {
	Relation
	columns []string
	types   []string // for a form that is exact
	form    rowForm
	tag     string
	// cursor has a name of its own, so that a pooler in transaction mode cannot mix two downloads up.
	cursor string
	ctx    context.Context
	from   Querier
}

// open finds the relation of an address and the requested format. Opening the cursor checks that the user may read it;
// it reads nothing yet.
func (d *Downloads) open(ctx context.Context, tx *sql.Tx, r *http.Request, find FindFunc) (*download, error) {
	// A name may itself end like a format.
	asked := r.PathValue("name")
	names, bySuffix := []string{asked}, rowForm{}
	for _, form := range rowForms() {
		if name, isSo := strings.CutSuffix(asked, form.suffix); isSo {
			names, bySuffix = append(names, name), form
		}
	}

	rows := &download{form: chooseForm(r), ctx: ctx}
	if _, err := tx.ExecContext(ctx, ReadAsItIs); err != nil {
		return nil, fmt.Errorf("begin to read %q: %w", asked, err)
	}
	var place int
	var err error
	if rows.Relation, place, err = find(ctx, tx, names); err != nil {
		return nil, fmt.Errorf("find %q: %w", asked, err)
	}
	if place > 1 {
		rows.form = bySuffix
	}
	if rows.form.isPage {
		return rows, nil
	}

	wanted, err := selectionOf(r.URL)
	if err != nil {
		return nil, err
	}
	var statement string
	err = tx.QueryRowContext(ctx, `
		select names, statement
		  from tinydevcrm._build_page_statement($1::bigint::oid, null, $2, $3, $4, is_json => $5)`,
		rows.OID, wanted.sort, wanted.isDescending, wanted.filters, rows.form.isJSON).
		Scan(pq.Array(&rows.columns), &statement)
	if err != nil {
		return nil, fmt.Errorf("describe %s: %w", rows.Name, err)
	}
	if rows.Version != "" {
		rows.tag = kit.TagOf(rows.Version, statement, rows.form.suffix)
	}
	rows.cursor = "tinydevcrm_rows_" + strings.ToLower(rand.Text())
	hold := " no scroll cursor with hold for "
	if d.isPooled.Load() {
		hold = " no scroll cursor for "
	}
	if _, err := tx.ExecContext(ctx, "declare "+rows.cursor+hold+statement); err != nil {
		return nil, fmt.Errorf("open %s: %w", rows.Name, err)
	}
	return rows, nil
}

// readExactly has values come as the writer of Parquet reads them, whatever the settings of the user.
const readExactly = "set local bytea_output = hex; set local extra_float_digits = 1; set local datestyle = iso"

// chooseTypes reads the types of the columns.
func (d *download) chooseTypes(ctx context.Context, tx *sql.Tx) error {
	if len(d.columns) == 0 {
		return &db.UserError{
			Status:  http.StatusUnprocessableEntity,
			Message: fmt.Sprintf("%s has no columns, and a Parquet file needs one", d.Name),
			Hint:    "Take it as JSON.",
		}
	}
	if _, err := tx.ExecContext(ctx, readExactly); err != nil {
		return fmt.Errorf("begin to read %s: %w", d.Name, err)
	}
	err := tx.QueryRowContext(ctx, "select tinydevcrm._choose_exact_types($1::bigint::oid)", d.OID).Scan(pq.Array(&d.types))
	if err != nil {
		return fmt.Errorf("choose the types of the columns of %s: %w", d.Name, err)
	}
	return nil
}

// all returns the rows. It fetches them in batches.
func (d *download) all() iter.Seq2[[]sql.NullString, error] {
	return func(yield func([]sql.NullString, error) bool) {
		for count := fetchedRows; count == fetchedRows; {
			count = 0
			for values, err := range ReadLines(d.ctx, d.from, fmt.Sprintf("fetch %d from %s", fetchedRows, d.cursor)) {
				if !yield(values, err) || err != nil {
					return
				}
				count++
			}
		}
	}
}

// closeRows closes the cursor, which frees its rows on the server. When that fails, the connection is closed.
func closeRows(conn *sql.Conn, cursor string) {
	ctx, cancel := context.WithTimeout(context.Background(), kit.ReadTimeout)
	defer cancel()
	if _, err := conn.ExecContext(ctx, "close "+cursor); err != nil {
		_ = conn.Raw(func(any) error { return driver.ErrBadConn })
	}
}

// isLostCursor reports whether the session does not have our cursor: after the commit a pooler has given us another one.
func isLostCursor(err error) bool {
	var refusal *pq.Error
	return errors.As(err, &refusal) && refusal.Code == "34000"
}
