package db

import (
	"context"
	"net"
	"time"
)

// A Dialer connects for lib/pq. It closes a connection on which the server sends nothing for too long while an
// answer is due. A context does not do that: lib/pq asks the server to cancel and then waits for the answer,
// even when the server is frozen or unreachable.
type Dialer struct {
	// Silence is the longest wait for an answer. A statement that takes longer on purpose needs another
	// Dialer.
	Silence time.Duration
}

// Dial, DialTimeout and DialContext are what lib/pq calls.
func (d Dialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

func (d Dialer) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return d.DialContext(ctx, network, address)
}

func (d Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: d.Silence}
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return impatientConn{conn, d.Silence}, nil
}

type impatientConn struct {
	net.Conn
	silence time.Duration
}

func (c impatientConn) Read(buffer []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.silence)); err != nil {
		return 0, err
	}
	return c.Conn.Read(buffer)
}

func (c impatientConn) Write(buffer []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.silence)); err != nil {
		return 0, err
	}
	return c.Conn.Write(buffer)
}
