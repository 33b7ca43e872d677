// Package upload streams a CSV file into a table.
//
// The rules are SQL: sniff_csv() says how the file is written, begin_import() makes a table for the
// types that its beginning suggests, widen_import() changes it when a value comes that does not fit,
// finish_import() completes it. This package cuts the file into records, matches each value against
// the patterns of csv_types, and carries the records to a COPY: in one transaction, in one pass,
// without a temporary file, and in memory that does not grow with the file.
package upload

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

// A Request says what to import, and how. Empty means what is found in the file, or the default.
type Request struct {
	// Source is the file's name: for the log, and for the table's name if Table is empty.
	Source string
	Table  string
	// Mode is create, replace, append or upsert; empty means create.
	Mode string
	// Key are the columns by which mode upsert finds a row.
	Key []string
	// DistributeBy is the column by which a Citus coordinator distributes the table.
	DistributeBy string
	// Types are columns' types by their names.
	Types map[string]string
	// Null is a text that means NULL, beside the empty one.
	Null string

	Encoding, Delimiter, Quote, Escape string
	// HasHeader says whether the first line names the columns.
	HasHeader *bool
	// Skip is how many lines come before the header.
	Skip *int

	// Ragged is what to do with a record of too few or too many fields: "" and "strict" refuse the
	// file, "pad" fills up or adds columns and notes it in import_problems.
	Ragged string

	// MaxBytes bounds the text of the file, unpacked; 0 takes any.
	MaxBytes int64
	// MaxRatio is how many times its size a packed file may unpack to, beyond some megabytes; 0 takes any.
	MaxRatio int64
	// Progress is called now and then; nil is fine.
	Progress func(Progress)

	// sizes are those of the first chunk and of the others, for tests; 0 means the usual ones.
	sizes [2]int
}

// Progress is how far an import has come.
type Progress struct {
	// Bytes are those read of the file as it came, packed if it was.
	Bytes int64
	Rows  int64
}

// An Import is what was done: the row of tinydevcrm.imports.
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
	RewriteCount int64    `json:"rewrite_count"`
	// Distribution says how the table lies on the workers of Citus; nil for one of the server alone.
	Distribution *string `json:"distribution,omitempty"`
	// Notices are what it did not do, and its user may expect.
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
}

// A Plan is what an import would do, going by the beginning of the file.
type Plan struct {
	Dialect Dialect  `json:"dialect"`
	Columns []Column `json:"columns"`
	// Statements are those that make the table and fill it.
	Statements []string `json:"statements"`
	// IsWhole says that the beginning was the whole file, so that the types are final.
	IsWhole bool `json:"is_whole"`
}

// ErrCommit says that the last step failed. Where the server did not say so itself, but the connection was
// lost or its answer not waited for, the import may be there.
var ErrCommit = errors.New("commit")

const commitWithin = 5 * time.Second

// Load imports file as request says. Either all of it is in the table when Load returns, or nothing.
func Load(ctx context.Context, pool *sql.DB, file io.Reader, request Request) (done Import, err error) {
	err = inTransaction(ctx, pool, func(conn *sql.Conn) (bool, error) {
		l, err := newLoader(ctx, conn, file, request)
		if err != nil {
			return false, err
		}
		done, err = l.load(ctx)
		return err == nil, err
	})
	if err != nil {
		return Import{}, fmt.Errorf("import %q: %w", request.Source, err)
	}
	return done, nil
}

// Preview reads the beginning of file and says what Load would do, without doing it.
func Preview(ctx context.Context, pool *sql.DB, file io.Reader, request Request) (plan Plan, err error) {
	err = inTransaction(ctx, pool, func(conn *sql.Conn) (bool, error) {
		l, err := newLoader(ctx, conn, file, request)
		if err != nil {
			return false, err
		}
		plan, err = l.preview(ctx)
		return false, err
	})
	if err != nil {
		return Plan{}, fmt.Errorf("preview %q: %w", request.Source, err)
	}
	return plan, nil
}

// inTransaction commits what work does if it says so, or ends the connection: a COPY that breaks off
// could not be rolled back otherwise, and a connection that ends leaves nothing. Not a sql.Tx, which
// waits for ever when the connection under it is given up.
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

// commit outlives ctx for a while, so that whoever stops an import learns whether it is there.
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

// begin begins a transaction. What the pool has may have died with a server that has been restarted; a
// connection that cannot even begin has done nothing, so another one is tried.
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
		if ctx.Err() != nil || tries == db.MaxConns || errors.As(err, &fromServer) {
			return nil, fmt.Errorf("begin: %w", err)
		}
	}
}
