package guard

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
)

type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// counted counts the connections of a dialer that are open.
func counted(open *atomic.Int64, dial dialFunc) dialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		open.Add(1)
		return &countedConn{Conn: conn, closed: sync.OnceFunc(func() { open.Add(-1) })}, nil
	}
}

type countedConn struct {
	net.Conn
	closed func()
}

func (c *countedConn) Close() error {
	c.closed()
	return c.Conn.Close()
}

// Apart returns a Network with the same settings that shares no connections with n.
func (n *Network) Apart() *Network {
	apart := *n
	apart.Transport = n.Transport.Clone()
	if n.proxied != nil {
		apart.proxied = n.proxied.Clone()
	}
	return &apart
}

// Open is how many connections are open, those of Networks apart included.
func (n *Network) Open() int64 { return n.open.Load() }

// CloseIdle closes the connections that no request uses.
func (n *Network) CloseIdle() {
	for _, transport := range []*http.Transport{n.Transport, n.proxied} {
		if transport != nil {
			transport.CloseIdleConnections()
		}
	}
}
