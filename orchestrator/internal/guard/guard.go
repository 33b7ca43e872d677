// Package guard makes HTTP connections to public addresses, and to the private ones that are allowed. URLs that users
// write are requested through it.
package guard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"code.dny.dev/ssrf"
)

const (
	idleWithin     = 90 * time.Second
	maxIdle        = 100
	maxIdlePerHost = 4
	headerLimit    = 16 << 10
)

// A Network sends requests. It is safe for concurrent use.
type Network struct {
	// Transport makes the connections that go through no proxy.
	Transport *http.Transport
	guard     *ssrf.Guardian
	// proxy chooses the proxy of a request, and proxied connects to it. They are nil without UseProxy.
	proxy         func(*http.Request) (*url.URL, error)
	proxied       *http.Transport
	connectWithin time.Duration
	open          *atomic.Int64
}

// A ProxyError is why the proxy does not help, in words.
type ProxyError string

func (e ProxyError) Error() string { return string(e) }

// New returns a Network that connects to public addresses, and to those of the allowed prefixes.
func New(allowed []netip.Prefix, connectWithin time.Duration) *Network {
	var v4, v6 []netip.Prefix
	for _, prefix := range allowed {
		if prefix.Addr().Is4() {
			v4 = append(v4, prefix)
		} else {
			v6 = append(v6, prefix)
		}
	}
	guard := ssrf.New(ssrf.WithAnyPort(), ssrf.WithAllowedV4Prefixes(v4...), ssrf.WithAllowedV6Prefixes(v6...))
	// Control sees the address of the connection, so a name that resolves to another address the second time
	// cannot bypass the check.
	dialer := &net.Dialer{Timeout: connectWithin, Control: guard.Safe}
	open := new(atomic.Int64)
	return &Network{
		guard:         guard,
		connectWithin: connectWithin,
		open:          open,
		// It uses no proxy unless UseProxy is called, because a proxy makes the connection without this check.
		Transport: &http.Transport{
			DialContext:            counted(open, dialer.DialContext),
			TLSHandshakeTimeout:    connectWithin,
			MaxResponseHeaderBytes: headerLimit,
			MaxIdleConns:           maxIdle,
			MaxIdleConnsPerHost:    maxIdlePerHost,
			IdleConnTimeout:        idleWithin,
			DisableCompression:     true,
		},
	}
}

// IsPrivate reports whether a request failed because its address is private.
func IsPrivate(err error) bool { return errors.Is(err, ssrf.ErrProhibitedIP) }

// CheckURL refuses a URL that cannot be requested.
func CheckURL(target *url.URL) error {
	switch {
	case target.Scheme != "http" && target.Scheme != "https":
		return errors.New("the URL is neither http nor https")
	case target.Hostname() == "":
		return errors.New("the URL has no host")
	case target.User != nil:
		return errors.New("the URL has a user name or a password")
	}
	return nil
}

// UseProxy has the Network send through the proxy that proxy chooses for a request; nil means none. The Network resolves
// the target's name and refuses it if any of its addresses is private. But the proxy resolves the name once more: a
// name whose address changes in between can reach what the proxy can reach, so the proxy has to keep to public
// addresses itself. Call it before the first request.
func (n *Network) UseProxy(proxy func(*http.Request) (*url.URL, error)) {
	n.proxy, n.proxied = proxy, n.Transport.Clone()
	n.proxied.Proxy = proxy
	// The proxy itself is usually at a private address.
	n.proxied.DialContext = counted(n.open, (&net.Dialer{Timeout: n.connectWithin}).DialContext)
	n.proxied.OnProxyConnectResponse = func(_ context.Context, _ *url.URL, _ *http.Request, answer *http.Response) error {
		if answer.StatusCode == http.StatusOK {
			return nil
		}
		return ProxyError("the proxy answers " + StatusLine(answer))
	}
}

// RoundTrip sends a request to its target, or to the proxy. Like that of a transport, it follows no redirect.
func (n *Network) RoundTrip(request *http.Request) (*http.Response, error) {
	if n.proxy == nil {
		return n.Transport.RoundTrip(request)
	}
	through, err := n.proxy(request)
	if err != nil {
		return nil, ProxyError("the address of the proxy cannot be used")
	}
	if through == nil {
		return n.Transport.RoundTrip(request)
	}
	if err := n.checkAddresses(request.Context(), request.URL); err != nil {
		return nil, err
	}
	return n.proxied.RoundTrip(request)
}

// checkAddresses refuses a target that has a private address.
func (n *Network) checkAddresses(ctx context.Context, target *url.URL) error {
	ctx, cancel := context.WithTimeout(ctx, n.connectWithin)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", target.Hostname())
	if err != nil {
		return fmt.Errorf("resolve the host name: %w", err)
	}
	for _, address := range addresses {
		address, network := address.Unmap(), "tcp6"
		if address.Is4() {
			network = "tcp4"
		}
		if err := n.guard.Safe(network, net.JoinHostPort(address.String(), "443"), nil); err != nil {
			return fmt.Errorf("check the address: %w", err)
		}
	}
	return nil
}

// StatusLine uses the standard text for the status, because the server's text may be anything.
func StatusLine(response *http.Response) string {
	return strings.TrimSpace(strconv.Itoa(response.StatusCode) + " " + http.StatusText(response.StatusCode))
}
