package db

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
)

const (
	// answerWithin is how long a statement whose context has ended may still wait for the server to cancel it.
	// Then the connection is closed.
	answerWithin = 5 * time.Second
	// connectWithin bounds a connection that the pool itself opens, because no statement's context does. A longer
	// connect_timeout of the URL is for a server that takes long to start.
	connectWithin = 10 * time.Second
	// readOnly is the code with which a standby, or a server that was set read-only, refuses to write.
	readOnly = "25006"
)

// cancelOrClose has the server cancel a statement whose context has ended, and closes the connection when the server
// does not answer.
func cancelOrClose(conn *pgconn.PgConn) ctxwatch.Handler {
	return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: answerWithin}
}

// A connector makes connections of pgx whose errors are those of lib/pq, as everywhere else in the program.
type connector struct {
	driver.Connector
	within time.Duration
}

func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.within)
	defer cancel()
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, fromServer(err)
	}
	return &boundConn{Conn: conn.(*stdlib.Conn)}, nil
}

// A boundConn runs statements that end with their contexts.
type boundConn struct {
	*stdlib.Conn
	// isReadOnly means that the server has refused to write: perhaps it has become a standby.
	isReadOnly bool
}

// IsValid has the pool close the connection instead of keeping it: the next one may reach the primary.
func (c *boundConn) IsValid() bool { return !c.isReadOnly }

// explain returns the error of lib/pq for an error of pgx.
func (c *boundConn) explain(err error) error {
	err = fromServer(err)
	var refusal *pq.Error
	if errors.As(err, &refusal) && refusal.Code == readOnly {
		c.isReadOnly = true
	}
	if err != nil && c.Conn.Conn().IsClosed() && !errors.As(err, &refusal) && !pgconn.Timeout(err) {
		return driver.ErrBadConn
	}
	return err
}

// CheckNamedValue lets database/sql convert arguments, as for any driver.
func (c *boundConn) CheckNamedValue(*driver.NamedValue) error { return driver.ErrSkip }

// checkArguments refuses what would end the message: the arguments are a part of its text.
func checkArguments(args []driver.NamedValue) error {
	for _, arg := range args {
		if text, ok := arg.Value.(string); ok && strings.IndexByte(text, 0) >= 0 {
			return &pq.Error{Severity: "ERROR", Code: "22021", Message: `invalid byte sequence for encoding "UTF8": 0x` + "00"}
		}
	}
	return nil
}

func (c *boundConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if err := checkArguments(args); err != nil {
		return nil, err
	}
	rows, err := c.Conn.QueryContext(ctx, query, args)
	if err != nil {
		return nil, c.explain(err)
	}
	return boundRows{rows.(*stdlib.Rows), c}, nil
}

func (c *boundConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if err := checkArguments(args); err != nil {
		return nil, err
	}
	result, err := c.Conn.ExecContext(ctx, query, args)
	return result, c.explain(err)
}

func (c *boundConn) BeginTx(ctx context.Context, options driver.TxOptions) (driver.Tx, error) {
	tx, err := c.Conn.BeginTx(ctx, options)
	if err != nil {
		return nil, c.explain(err)
	}
	return boundTx{tx, c}, nil
}

type boundRows struct {
	*stdlib.Rows
	conn *boundConn
}

func (r boundRows) Next(values []driver.Value) error {
	err := r.Rows.Next(values)
	if errors.Is(err, io.EOF) && !r.conn.Conn.Conn().IsClosed() {
		return err
	}
	return r.conn.explain(err)
}

type boundTx struct {
	driver.Tx
	conn *boundConn
}

func (t boundTx) Commit() error { return t.conn.explain(t.Tx.Commit()) }

// CopyFrom runs a COPY that reads what rows returns, until io.EOF, and returns how many rows that were. When rows
// returns another error, nothing is copied. After an error it does not read on.
func CopyFrom(ctx context.Context, conn *sql.Conn, statement string, rows io.Reader) (count int64, err error) {
	err = conn.Raw(func(driverConn any) error {
		bound := driverConn.(*boundConn)
		tag, err := bound.Conn.Conn().PgConn().CopyFrom(ctx, rows, statement)
		count = tag.RowsAffected()
		return bound.explain(err)
	})
	return count, err
}

// fromServer returns an error of the server as one of lib/pq.
func fromServer(err error) error {
	var from *pgconn.PgError
	if !errors.As(err, &from) {
		return err
	}
	return &pq.Error{
		Severity:         from.SeverityUnlocalized,
		Code:             pqerror.Code(from.Code),
		Message:          from.Message,
		Detail:           from.Detail,
		Hint:             from.Hint,
		Position:         position(from.Position),
		InternalPosition: position(from.InternalPosition),
		InternalQuery:    from.InternalQuery,
		Where:            from.Where,
		Schema:           from.SchemaName,
		Table:            from.TableName,
		Column:           from.ColumnName,
		DataTypeName:     from.DataTypeName,
		Constraint:       from.ConstraintName,
		File:             from.File,
		Line:             position(from.Line),
		Routine:          from.Routine,
	}
}

// position is empty when there is none.
func position(number int32) string {
	if number == 0 {
		return ""
	}
	return strconv.Itoa(int(number))
}
