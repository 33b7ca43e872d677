// Package upload streams a file into a table.
//
// Package dialect finds how the file is written. The rules are SQL: begin_import() creates a table with the types
// that the beginning of the file suggests, widen_import() changes the table when a value does not fit, finish_import()
// completes it. This package splits the file into records, matches each value against the patterns of
// csv_types, and sends the records to a COPY: in one transaction, in one pass, without a temporary file of the text,
// and in memory that does not grow with the file.
package upload

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

// A Request says what to import, and how. An empty field means the default, or what is found in the file.
type Request struct {
	// Source is the name of the file, for the log. It also gives the table's name if Table is empty.
	Source string
	Table  string
	// Mode is a row of tinydevcrm.import_modes; empty means create.
	Mode string
	// Key is the columns by which mode upsert finds a row.
	Key []string
	// DistributeBy is the column by which a Citus coordinator distributes the table.
	DistributeBy string
	// Types are the types of columns, by name.
	Types map[string]string
	// Nulls are texts that mean NULL, in addition to the empty text.
	Nulls []string
	// IsQuotedEmptyNull means that an empty text in quotes is NULL too.
	IsQuotedEmptyNull bool
	// IsTrimmed means that blanks around values that are not quoted do not belong to them.
	IsTrimmed bool

	// Format is one of formatNames; empty means that it is found in the file.
	Format string
	// Members are the files of a zip to import, by their names or by patterns; nil means the only one.
	Members []string
	// Sheet is one of a workbook; empty means the first with a table.
	Sheet string

	Encoding, Delimiter, Quote, Escape string
	// HasHeader is whether the first line names the columns; not set means that this is found in the file.
	HasHeader *bool
	// HeaderLines is how many lines name the columns; 0 means one.
	HeaderLines int
	// Columns are names for the columns, instead of those of the file.
	Columns []string
	// FileColumn is the name of a further column, for the name of the file; empty for none.
	FileColumn string
	// Skip is how many lines come before the header.
	Skip *int
	// SkipAfterHeader is how many lines below the header are not data, SkipEnd how many at the end of the file.
	SkipAfterHeader, SkipEnd int
	// Comment begins lines that are not data; empty when there are none.
	Comment string

	// Ragged is how to treat a record with too few or too many fields: "" and "strict" refuse the file; "pad"
	// fills it up or adds columns, and notes it in import_problems; "reject" only notes it there.
	Ragged string
	// Shape are the options of begin_import(): new_columns, missing_columns, widen, bad.
	Shape map[string]string
	// RejectLimit is how many lines may be rejected; 0 means defaultRejects.
	RejectLimit int64

	// MaxBytes limits the text of the file, unpacked; 0 means no limit.
	MaxBytes int64
	// MaxRatio limits how many times its own size a file may unpack to, beyond some megabytes; 0 means no
	// limit.
	MaxRatio int64
	// Progress is called from time to time; it may be nil.
	Progress func(Progress)

	// given are the names of the options that NewRequest was given.
	given []string

	// Prepare runs in the transaction of the import before anything else, Finish before its commit, which an error of
	// theirs prevents; they may be nil.
	Prepare func(context.Context, *sql.Conn) error
	Finish  func(context.Context, *sql.Conn, Import) error

	// sizes are those of the first chunk and of the others, for tests; 0 means the default.
	sizes [2]int
	// isByText sends rows in text format, for tests.
	isByText bool
}

// Progress is how much of a file is imported.
type Progress struct {
	// Bytes is how much of the file has been read, as it is received: compressed if it is.
	Bytes int64
	Rows  int64
}

// An Import is the result of an import: the row of tinydevcrm.imports.
type Import struct {
	ID           int64    `json:"id"`
	Source       string   `json:"source"`
	Mode         string   `json:"mode"`
	SchemaName   string   `json:"schema_name"`
	TableName    string   `json:"table_name"`
	Dialect      Dialect  `json:"dialect"`
	Columns      []Column `json:"columns"`
	RowCount     int64    `json:"row_count"`
	ByteCount    int64    `json:"byte_count"`
	ProblemCount int64    `json:"problem_count"`
	RejectCount  int64    `json:"reject_count"`
	RewriteCount int64    `json:"rewrite_count"`
	// Distribution describes how Citus distributes the table across its workers; nil for a table of one
	// server.
	Distribution *string `json:"distribution,omitempty"`
	// Notices are what the import did not do, though the user may expect it.
	Notices    []string  `json:"notices"`
	StartedAt  time.Time `json:"started_at"`
	FinishedAt time.Time `json:"finished_at"`
}

// Took is how long it took.
func (i Import) Took() time.Duration { return i.FinishedAt.Sub(i.StartedAt) }

// A Column of the table: its name and type, and what the file called it.
type Column struct {
	Name   string `json:"name"`
	Type   string `json:"type"`
	Header string `json:"header"`
	// Form is how the values are written, a row of tinydevcrm.csv_forms; empty for one of csv_types.
	Form string `json:"form,omitempty"`
	// Note says, in a preview, what else the values could be.
	Note string `json:"note,omitempty"`
	// Samples are, in a preview, the values of the first rows; nil is NULL.
	Samples []*string `json:"samples,omitempty"`
	// Misfit is, in a preview, why the column has no narrower type.
	Misfit *Misfit `json:"misfit,omitempty"`
}

// SampleText shows the samples in one line.
func (c Column) SampleText() string {
	shown := make([]string, len(c.Samples))
	for i, sample := range c.Samples {
		shown[i] = "NULL"
		if sample != nil {
			shown[i] = excerptOf([]byte(*sample), shownSample)
		}
	}
	return strings.Join(shown, ", ")
}

// A Plan is what an import would do, judged by the beginning of the file.
type Plan struct {
	Dialect Dialect  `json:"dialect"`
	Columns []Column `json:"columns"`
	// Notices are weak guesses, and columns that can be read in two ways.
	Notices []string `json:"notices"`
	// Choices are the sheets of a workbook and the files of a zip, where there are several.
	Choices []db.Choices `json:"choices,omitempty"`
	// Statements create the table and fill it.
	Statements []string `json:"statements"`
	// IsWhole means that the beginning is the whole file, so that the types are final.
	IsWhole bool `json:"is_whole"`
}

// ErrCommit means that the commit failed. Unless the server itself reported the failure, the import may have
// been committed: the connection was lost, or its answer was not waited for.
var ErrCommit = errors.New("commit")

const commitWithin = 5 * time.Second

// Load imports file as request says; several, if file is Files. When Load returns, either all of it is in the
// table, or nothing.
func Load(ctx context.Context, pool *sql.DB, file io.Reader, request Request) (done Import, err error) {
	err = inTransaction(ctx, pool, func(conn *sql.Conn) (bool, error) {
		if request.Prepare != nil {
			if err := request.Prepare(ctx, conn); err != nil {
				return false, err
			}
		}
		l, err := newLoader(ctx, conn, file, request)
		if err != nil {
			return false, err
		}
		defer l.end()
		done, err = l.load(ctx)
		if err == nil && request.Finish != nil {
			err = request.Finish(ctx, conn, done)
		}
		return err == nil, l.withLines(err)
	})
	if err != nil {
		return Import{}, fmt.Errorf("import %q: %w", request.Source, err)
	}
	return done, nil
}

// Preview reads the beginning of file and returns what Load would do.
func Preview(ctx context.Context, pool *sql.DB, file io.Reader, request Request) (plan Plan, err error) {
	err = inTransaction(ctx, pool, func(conn *sql.Conn) (bool, error) {
		l, err := newLoader(ctx, conn, file, request)
		if err != nil {
			return false, err
		}
		defer l.end()
		plan, err = l.preview(ctx)
		return false, l.withLines(err)
	})
	if err != nil {
		return Plan{}, fmt.Errorf("preview %q: %w", request.Source, err)
	}
	return plan, nil
}

// inTransaction commits the work when work returns true; otherwise it closes the connection. A COPY that is
// interrupted could not be rolled back in another way, and a closed connection leaves nothing behind. It does
// not use sql.Tx, which waits forever when its connection is closed.
func inTransaction(ctx context.Context, pool *sql.DB, work func(*sql.Conn) (bool, error)) error {
	conn, err := begin(ctx, pool)
	if err != nil {
		return err
	}
	defer conn.Close()
	giveUp := func() { conn.Raw(func(any) error { return driver.ErrBadConn }) }

	isDone, err := work(conn)
	if err != nil || !isDone {
		giveUp()
		return err
	}
	if err := commit(ctx, conn); err != nil {
		giveUp()
		return err
	}
	return nil
}

// commit continues for a while after ctx has ended, so that the user who stops an import learns whether it was
// committed.
func commit(ctx context.Context, conn *sql.Conn) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	patient, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(commitWithin, cancel) })
	defer stop()
	if _, err := conn.ExecContext(patient, "commit"); err != nil {
		return fmt.Errorf("%w: %w", ErrCommit, err)
	}
	return nil
}

// begin begins a transaction. The pool may hold connections that the server has ended since (class 57). A connection
// that fails to begin has done nothing, so another one is tried.
func begin(ctx context.Context, pool *sql.DB) (*sql.Conn, error) {
	for tries := 0; ; tries++ {
		conn, err := pool.Conn(ctx)
		if err != nil {
			return nil, err
		}
		_, err = conn.ExecContext(ctx, "begin")
		if err == nil {
			return conn, nil
		}
		conn.Raw(func(any) error { return driver.ErrBadConn })
		conn.Close()
		var fromServer *pq.Error
		isAnswer := errors.As(err, &fromServer) && fromServer.Code.Class() != "57"
		if ctx.Err() != nil || tries == db.MaxConns || isAnswer {
			return nil, fmt.Errorf("begin: %w", err)
		}
	}
}
