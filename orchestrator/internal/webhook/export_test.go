package webhook

import (
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"time"
)

// NewClientWithin is NewClient with timeouts that a test can wait for.
func NewClientWithin(allowed []netip.Prefix, attempt, connect time.Duration) *Client {
	return newClient(allowed, attempt, connect)
}

// WithRoots makes a Client trust the certificates of a test.
func (c *Client) WithRoots(roots *x509.CertPool) *Client {
	c.network.Transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	return c
}

// Close lets the servers of a test end.
func (c *Client) Close() { c.owners.closeIdle() }

// Open is how many connections are open.
func (c *Client) Open() int64 { return c.network.Open() }
