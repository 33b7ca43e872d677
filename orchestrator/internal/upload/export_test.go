package upload

import (
	"context"
	"database/sql"
)

// WithSizes makes an import work in chunks of other sizes, so that small files have many.
func (r Request) WithSizes(first, rest int) Request {
	r.sizes = [2]int{first, rest}
	return r
}

// InTransaction does work and rolls it back.
func InTransaction(ctx context.Context, pool *sql.DB, work func(*sql.Conn) error) error {
	return inTransaction(ctx, pool, func(conn *sql.Conn) (bool, error) { return false, work(conn) })
}

// Copy sends one piece to a COPY.
func Copy(ctx context.Context, conn *sql.Conn, statement string, text []byte) error {
	c, err := startCopy(ctx, conn, statement)
	if err != nil {
		return err
	}
	if err := c.send(ctx, conn, append(text, '\n')); err != nil {
		return err
	}
	_, err = c.end(conn)
	return err
}
