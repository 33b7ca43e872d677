package upload

import (
	"bytes"
	"context"
	"database/sql"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

// WithSizes makes an import work in chunks of other sizes, so that small files have many.
func (r Request) WithSizes(first, rest int) Request {
	r.sizes = [2]int{first, rest}
	return r
}

// ByText makes an import send its rows in text format.
func (r Request) ByText() Request {
	r.isByText = true
	return r
}

// IsBinary reports whether a table with a column of a type goes in binary format, when its rank is known.
func IsBinary(typeName string, rank *int64) bool {
	column := storedColumn{Column: Column{Type: typeName}, Rank: rank}
	return step{columns: []storedColumn{column}}.format(false).kinds != nil
}

// InTransaction does work and rolls it back.
func InTransaction(ctx context.Context, pool *sql.DB, work func(*sql.Conn) error) error {
	return inTransaction(ctx, pool, func(conn *sql.Conn) (bool, error) { return false, work(conn) })
}

// Copy sends text to a COPY.
func Copy(ctx context.Context, conn *sql.Conn, statement string, text []byte) error {
	_, err := db.CopyFrom(ctx, conn, statement, bytes.NewReader(append(text, '\n')))
	return err
}
