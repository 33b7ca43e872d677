package db

import (
	"context"
	"database/sql/driver"
	"strings"
)

// lib/pq misreads an error of more than 30,000 bytes, such as one that repeats a long query, as the plain text
// of a server that could not start. It leaves the rest of the error unread, and the next user of the connection
// would read that rest as an answer. So such a connection is closed at once.

// misread is how the message of such an error begins. It lacks the server's own text.
const misread = "pq: server error: "

func isMisread(err error) bool { return err != nil && strings.Contains(err.Error(), misread) }

// pqConn is the interface of lib/pq's connections.
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

// pqRows is the interface of lib/pq's rows.
type pqRows interface {
	driver.RowsNextResultSet
	driver.RowsColumnTypeDatabaseTypeName
	driver.RowsColumnTypeLength
	driver.RowsColumnTypePrecisionScale
	driver.RowsColumnTypeScanType
}

// pqStmt is the interface of lib/pq's statements that are no COPY. A COPY handles its errors itself.
type pqStmt interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

// A waryConnector makes connections that close after the first misread error.
type waryConnector struct{ driver.Connector }

func (c waryConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &waryConn{conn.(pqConn)}, nil
}

type waryConn struct{ pqConn }

// heed passes an error on. After a misread one it closes the connection, and begins a transaction on it: when
// that fails, lib/pq notes that the connection is closed, and reads no more from it.
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

// Commit runs deferred constraints, whose errors can be of any length.
func (t waryTx) Commit() error { return t.conn.heed(t.Tx.Commit()) }
