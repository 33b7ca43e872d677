package dbtest

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// A Proxy stands between the program and the server, and gives their connections the faults of a network.
type Proxy struct {
	address string
	target  string

	mu      sync.Mutex
	stalled chan struct{} // closed when bytes may pass again; nil while they pass
	delay   time.Duration
	conns   map[*net.TCPConn]*net.TCPConn // from the client's connection to the server's
	// lost are connections that pass no more bytes. New connections are not among them.
	lost map[net.Conn]bool
}

// NewProxy starts a proxy in front of the address of a server, and ends it when the test ends.
func NewProxy(t *testing.T, target string) *Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{address: listener.Addr().String(), target: target, conns: make(map[*net.TCPConn]*net.TCPConn), lost: make(map[net.Conn]bool)}
	var group sync.WaitGroup
	group.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", p.target)
			if err != nil {
				client.Close()
				continue
			}
			p.mu.Lock()
			p.conns[client.(*net.TCPConn)] = server.(*net.TCPConn)
			p.mu.Unlock()
			group.Go(func() { p.pass(client, server) })
			group.Go(func() { p.pass(server, client) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		p.Reset()
		p.Flow()
		group.Wait()
	})
	return p
}

func (p *Proxy) pass(from, to net.Conn) {
	page := make([]byte, 32<<10)
	for {
		n, err := from.Read(page)
		p.mu.Lock()
		stalled, delay, isLost := p.stalled, p.delay, p.lost[from]
		p.mu.Unlock()
		if isLost && err == nil {
			continue
		}
		if stalled != nil {
			<-stalled
		}
		time.Sleep(delay)
		if n > 0 {
			if _, err := to.Write(page[:n]); err != nil {
				from.Close()
				return
			}
		}
		if err == io.EOF {
			to.(*net.TCPConn).CloseWrite()
			return
		}
		if err != nil {
			to.Close()
			return
		}
	}
}

// Stall lets no byte through in either direction, and closes nothing: the worst kind of outage.
func (p *Proxy) Stall() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stalled = make(chan struct{})
}

// Flow ends a stall.
func (p *Proxy) Flow() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stalled != nil {
		close(p.stalled)
		p.stalled = nil
	}
}

// Forget passes nothing more on the connections that exist now, like a firewall that has lost its state.
func (p *Proxy) Forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for client, server := range p.conns {
		p.lost[client], p.lost[server] = true, true
	}
}

// Slow delays each packet by this time.
func (p *Proxy) Slow(delay time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = delay
}

// Reset ends all connections by RST.
func (p *Proxy) Reset() {
	p.each(func(client, server *net.TCPConn) {
		client.SetLinger(0)
		server.SetLinger(0)
		client.Close()
		server.Close()
	})
}

// HalfClose closes the direction to the server, as if the program had done so. The program can still read.
func (p *Proxy) HalfClose() { p.each(func(_, server *net.TCPConn) { server.CloseWrite() }) }

func (p *Proxy) each(do func(client, server *net.TCPConn)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for client, server := range p.conns {
		do(client, server)
	}
	clear(p.conns)
}

// URL is the server's URL with the proxy's address.
func (p *Proxy) URL() string {
	host, port, _ := strings.Cut(p.address, ":")
	return "postgres://postgres@" + host + ":" + port + "/tinydevcrm?sslmode=disable"
}
