package db

import (
	"context"
	"database/sql/driver"
	"net"
	"sync"
	"time"

	"github.com/lib/pq"
)

const (
	// answerWithin is how long a statement whose context has ended may still wait for the server to cancel it.
	// Then the connection is closed.
	answerWithin = 5 * time.Second
	// connectWithin bounds a connection that the pool itself opens, because no statement's context does.
	connectWithin = 10 * time.Second
)

// A connector makes connections whose statements end with their contexts. lib/pq alone does not ensure that: it
// asks the server to cancel and then waits for the answer, even when the server is frozen or unreachable.
type connector struct {
	*pq.Connector
	config pq.Config
}

func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	// Each connection has a lib/pq connector of its own, because each needs a dialer that knows its
	// connection.
	own, err := pq.NewConnectorConfig(c.config.Clone())
	if err != nil {
		return nil, err
	}
	var line line
	own.Dialer(&line)
	// lib/pq dials with the context, but then waits for the server's greeting without it.
	ctx, cancel := context.WithTimeout(ctx, connectWithin)
	defer cancel()
	line.bind(ctx)
	defer line.release()
	conn, err := own.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &boundConn{conn.(pqConn), &line}, nil
}

type boundConn struct {
	pqConn
	line *line
}

func (c *boundConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	c.line.bind(ctx)
	return c.pqConn.QueryContext(ctx, query, args)
}

func (c *boundConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	c.line.bind(ctx)
	return c.pqConn.ExecContext(ctx, query, args)
}

func (c *boundConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	c.line.bind(ctx)
	return c.pqConn.PrepareContext(ctx, query)
}

func (c *boundConn) BeginTx(ctx context.Context, options driver.TxOptions) (driver.Tx, error) {
	c.line.bind(ctx)
	return c.pqConn.BeginTx(ctx, options)
}

func (c *boundConn) Ping(ctx context.Context) error {
	c.line.bind(ctx)
	return c.pqConn.Ping(ctx)
}

// A line dials one connection, and knows whether a read waits on it.
type line struct {
	mu   sync.Mutex
	conn net.Conn
	// waitsSince is when the current read began; zero when there is none.
	waitsSince time.Time
	// unbind forgets the context of the last statement, which may live much longer.
	unbind func() bool
}

// Dial, DialTimeout and DialContext are what lib/pq calls: first for the connection itself, then once for each
// statement that it cancels.
func (l *line) Dial(network, address string) (net.Conn, error) {
	return l.DialContext(context.Background(), network, address)
}

func (l *line) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return l.DialContext(ctx, network, address)
}

func (l *line) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil {
		return conn, conn.SetDeadline(time.Now().Add(answerWithin))
	}
	l.conn = conn
	return lineConn{conn, l}, nil
}

// bind closes the connection if it still waits for an answer some time after ctx has ended. It replaces the
// previous binding: a connection runs one statement at a time.
func (l *line) bind(ctx context.Context) {
	unbind := context.AfterFunc(ctx, func() {
		ended := time.Now()
		time.AfterFunc(answerWithin, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			// A read that began later belongs to another statement.
			if !l.waitsSince.IsZero() && l.waitsSince.Before(ended) {
				l.conn.Close()
			}
		})
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.unbind != nil {
		l.unbind()
	}
	l.unbind = unbind
}

// release ends what bind began. It is called when the statement is done.
func (l *line) release() { l.bind(context.Background()) }

type lineConn struct {
	net.Conn
	line *line
}

func (c lineConn) Read(buffer []byte) (int, error) {
	c.line.setWaiting(time.Now())
	defer c.line.setWaiting(time.Time{})
	return c.Conn.Read(buffer)
}

func (l *line) setWaiting(since time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waitsSince = since
}
