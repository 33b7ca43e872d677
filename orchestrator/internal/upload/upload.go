// Package upload streams a CSV file into a new table.
//
// The rules are SQL: begin_import() reads the file's beginning and says what to COPY into,
// finish_import() makes the table. This package carries the bytes, in one transaction, without a
// temporary file and in memory that does not grow with the file.
package upload

import (
	"bytes"
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

const (
	// sampleSize is how much of the file begin_import() gets to see.
	sampleSize = 256 << 10
	// chunkSize is how much goes into one message to the server, at most.
	chunkSize = 64 << 10
	// maxLine bounds the memory that a file without line feeds takes.
	maxLine = 128 << 20
)

// A Request says what to import, and how.
type Request struct {
	// Source is the file's name: for the log, and for the table's name if Table is empty.
	Source string
	Table  string
	// Mode is create, replace or append; empty means create.
	Mode string
}

// An Import is what was done: the row of tinydevcrm.imports.
type Import struct {
	ID         int64     `json:"id"`
	Source     string    `json:"source"`
	Mode       string    `json:"mode"`
	SchemaName string    `json:"schema_name"`
	TableName  string    `json:"table_name"`
	Columns    []Column  `json:"columns"`
	RowCount   int64     `json:"row_count"`
	ByteCount  int64     `json:"byte_count"`
	StartedAt  time.Time `json:"started_at"`
	FinishedAt time.Time `json:"finished_at"`
}

// A Column of the table: its name and type, and what the file called it.
type Column struct {
	Name   string `json:"name"`
	Type   string `json:"type"`
	Header string `json:"header"`
}

// Load imports file as request says. Either all of it is in the table when Load returns, or nothing.
func Load(ctx context.Context, pool *sql.DB, file io.Reader, request Request) (Import, error) {
	counted := &countingReader{reader: file}
	sample, err := io.ReadAll(io.LimitReader(counted, sampleSize))
	if err != nil {
		return Import{}, fmt.Errorf("read %q: %w", request.Source, err)
	}

	conn, err := pool.Conn(ctx)
	if err != nil {
		return Import{}, fmt.Errorf("import %q: %w", request.Source, err)
	}
	defer conn.Close()

	done, err := inTransaction(ctx, conn, func() (Import, error) {
		return load(ctx, conn, request, sample, counted)
	})
	if err != nil {
		return Import{}, fmt.Errorf("import %q: %w", request.Source, err)
	}
	return done, nil
}

// inTransaction commits what work does, or ends the connection: a COPY that breaks off could not be
// rolled back otherwise, and a connection that ends leaves nothing. Not a sql.Tx, which waits for
// ever when the connection under it is given up.
func inTransaction(ctx context.Context, conn *sql.Conn, work func() (Import, error)) (Import, error) {
	giveUp := func() { conn.Raw(func(any) error { return driver.ErrBadConn }) }
	if _, err := conn.ExecContext(ctx, "begin"); err != nil {
		giveUp()
		return Import{}, fmt.Errorf("begin: %w", err)
	}
	done, err := work()
	if err != nil {
		giveUp()
		return Import{}, err
	}
	if _, err := conn.ExecContext(ctx, "commit"); err != nil {
		giveUp()
		return Import{}, fmt.Errorf("commit: %w", err)
	}
	return done, nil
}

func load(ctx context.Context, conn *sql.Conn, request Request, sample []byte, rest *countingReader) (Import, error) {
	var id int64
	var statement string
	err := conn.QueryRowContext(ctx, `
		select import_id, copy_statement
		  from tinydevcrm.begin_import(
		           source => $1, sample => $2, table_name => $3, mode => coalesce(nullif($4, ''), 'create'))`,
		request.Source, sample, request.Table, request.Mode).Scan(&id, &statement)
	if err != nil {
		return Import{}, fmt.Errorf("begin: %w", err)
	}
	if err := copyFrom(ctx, conn, statement, io.MultiReader(bytes.NewReader(sample), rest)); err != nil {
		return Import{}, fmt.Errorf("copy: %w", err)
	}
	done, err := finish(ctx, conn, id, rest.bytes)
	if err != nil {
		return Import{}, fmt.Errorf("finish: %w", err)
	}
	return done, nil
}

// copyData is lib/pq's COPY statement, which sends raw bytes and puts a line feed after each call.
type copyData interface {
	driver.Stmt
	CopyData(ctx context.Context, line string) (driver.Result, error)
}

// copyFrom sends file to the COPY statement, which has to run in conn's open transaction.
func copyFrom(ctx context.Context, conn *sql.Conn, statement string, file io.Reader) error {
	return conn.Raw(func(driverConn any) error {
		prepared, err := driverConn.(driver.ConnPrepareContext).PrepareContext(ctx, statement)
		if err != nil {
			return err
		}
		stmt := prepared.(copyData)

		// A statement that broke off is not closed: that would end the COPY as if the file were whole.
		if err := sendLines(ctx, stmt, file); err != nil {
			return err
		}
		_, err = stmt.Exec(nil)
		return err
	})
}

// errEndMarker is told because servers before 18 take such a line for the end of the file and drop
// the rest of it in silence.
var errEndMarker = &db.UserError{
	Status:  http.StatusUnprocessableEntity,
	Message: `the file has a line that is just \.`,
	Hint:    `COPY would take it for the end of the file. Remove the line.`,
}

var errLongLine = &db.UserError{
	Status:  http.StatusUnprocessableEntity,
	Message: fmt.Sprintf("the file has a line of more than %d MB", maxLine>>20),
	Hint:    "Is it a CSV, with line feeds at the ends of its lines?",
}

// sendLines cuts file into pieces that end at a line feed, as CopyData wants them.
func sendLines(ctx context.Context, stmt copyData, file io.Reader) error {
	buffer := make([]byte, 0, 2*chunkSize)
	whole := -1 // the last line feed in buffer
	for {
		buffer = grow(buffer)
		known := len(buffer)
		n, err := file.Read(buffer[known:cap(buffer)])
		buffer = buffer[:known+n]
		atEnd := errors.Is(err, io.EOF)
		if err != nil && !atEnd {
			return err
		}

		if at := bytes.LastIndexByte(buffer[known:], '\n'); at >= 0 {
			whole = known + at
		}
		if len(buffer)-whole > maxLine {
			return errLongLine
		}
		if whole < 0 && atEnd && len(buffer) > 0 {
			whole = len(buffer)
		}
		if whole >= 0 && (atEnd || whole >= chunkSize) {
			if hasEndMarker(buffer[:whole]) {
				return errEndMarker
			}
			if _, err := stmt.CopyData(ctx, string(buffer[:whole])); err != nil {
				return err
			}
			buffer = buffer[:copy(buffer, buffer[min(whole+1, len(buffer)):])]
			whole = -1
		}
		if atEnd && len(buffer) == 0 {
			return nil
		}
	}
}

// grow makes room for another chunk. A buffer is as large as the file's longest line needs.
func grow(buffer []byte) []byte {
	if cap(buffer)-len(buffer) >= chunkSize {
		return buffer
	}
	return append(make([]byte, 0, 2*cap(buffer)), buffer...)
}

// hasEndMarker tells whether one of the lines is \. alone.
func hasEndMarker(lines []byte) bool {
	for rest := lines; ; {
		at := bytes.Index(rest, []byte(`\.`))
		if at < 0 {
			return false
		}
		startsLine := at == 0 && len(rest) == len(lines) || at > 0 && (rest[at-1] == '\n' || rest[at-1] == '\r')
		after := rest[at+2:]
		if startsLine && (len(after) == 0 || after[0] == '\n' || after[0] == '\r') {
			return true
		}
		rest = after
	}
}

func finish(ctx context.Context, conn *sql.Conn, id, byteCount int64) (Import, error) {
	var done Import
	var columns []byte
	err := conn.QueryRowContext(ctx, `
		select id, source, mode, schema_name, table_name, columns, row_count, byte_count,
		       started_at, finished_at
		  from tinydevcrm.finish_import($1, $2)`, id, byteCount).Scan(
		&done.ID, &done.Source, &done.Mode, &done.SchemaName, &done.TableName, &columns,
		&done.RowCount, &done.ByteCount, &done.StartedAt, &done.FinishedAt)
	if err != nil {
		return Import{}, err
	}
	if err := json.Unmarshal(columns, &done.Columns); err != nil {
		return Import{}, fmt.Errorf("read the columns: %w", err)
	}
	return done, nil
}

type countingReader struct {
	reader io.Reader
	bytes  int64
}

func (r *countingReader) Read(p []byte) (int, error) {
	n, err := r.reader.Read(p)
	r.bytes += int64(n)
	return n, err
}
