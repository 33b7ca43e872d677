package db

import (
	"context"
	"database/sql/driver"
	"strings"
)

// An error of the server's that is longer than 30,000 bytes, as of a long query, is taken by lib/pq for
// the plain text of a server that could not even start. It leaves the rest of it unread, and whoever used
// the connection next would take that rest for the answer. So such a connection is closed at once.

// misread is how lib/pq says that; it does not get as far as the server's own words.
const misread = "pq: server error: "

func isMisread(err error) bool { return err != nil && strings.Contains(err.Error(), misread) }

// pqConn is what a connection of lib/pq's can do.
type pqConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.NamedValueChecker
	driver.Pinger
	driver.QueryerContext
	driver.SessionResetter
	driver.Validator
}

// pqRows is what rows of lib/pq's can do.
type pqRows interface {
	driver.RowsNextResultSet
	driver.RowsColumnTypeDatabaseTypeName
	driver.RowsColumnTypeLength
	driver.RowsColumnTypePrecisionScale
	driver.RowsColumnTypeScanType
}

// pqStmt is what a statement of lib/pq's can do that is no COPY. A COPY heeds its errors itself.
type pqStmt interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

// A waryConnector makes connections that end with the first error that was misread on them.
type waryConnector struct{ driver.Connector }

func (c waryConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &waryConn{conn.(pqConn)}, nil
}

type waryConn struct{ pqConn }

// heed passes an error on. After one that was misread it closes the connection. lib/pq knows of that, and
// reads no more, once it has failed to begin a transaction on it.
func (c *waryConn) heed(err error) error {
	if isMisread(err) {
		_ = c.pqConn.Close()
		_, _ = c.pqConn.BeginTx(context.Background(), driver.TxOptions{})
	}
	return err
}

func (c *waryConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return c.wary(c.pqConn.QueryContext(ctx, query, args))
}

func (c *waryConn) wary(rows driver.Rows, err error) (driver.Rows, error) {
	if err != nil {
		return nil, c.heed(err)
	}
	return waryRows{rows.(pqRows), c}, nil
}

func (c *waryConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	result, err := c.pqConn.ExecContext(ctx, query, args)
	return result, c.heed(err)
}

func (c *waryConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	stmt, err := c.pqConn.PrepareContext(ctx, query)
	if err != nil {
		return nil, c.heed(err)
	}
	if plain, ok := stmt.(pqStmt); ok {
		return waryStmt{plain, c}, nil
	}
	return stmt, nil
}

func (c *waryConn) BeginTx(ctx context.Context, options driver.TxOptions) (driver.Tx, error) {
	tx, err := c.pqConn.BeginTx(ctx, options)
	if err != nil {
		return nil, c.heed(err)
	}
	return waryTx{tx, c}, nil
}

type waryRows struct {
	pqRows
	conn *waryConn
}

func (r waryRows) Next(values []driver.Value) error { return r.conn.heed(r.pqRows.Next(values)) }

type waryStmt struct {
	pqStmt
	conn *waryConn
}

func (s waryStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return s.conn.wary(s.pqStmt.QueryContext(ctx, args))
}

func (s waryStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	result, err := s.pqStmt.ExecContext(ctx, args)
	return result, s.conn.heed(err)
}

type waryTx struct {
	driver.Tx
	conn *waryConn
}

// Commit runs what was deferred, whose errors may be as long as any.
func (t waryTx) Commit() error { return t.conn.heed(t.Tx.Commit()) }
