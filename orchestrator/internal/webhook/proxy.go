package webhook

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
)

// UseProxy has the Client send through the proxy that proxy chooses for a request; nil means none. The Client resolves
// the target's name and refuses it if any of its addresses is private. But the proxy resolves the name once more: a
// name whose address changes in between can reach what the proxy can reach, so the proxy has to keep to public
// addresses itself. Call it before the first Send.
func (c *Client) UseProxy(proxy func(*http.Request) (*url.URL, error)) {
	c.proxy, c.proxied = proxy, c.transport.Clone()
	c.proxied.Proxy = proxy
	// The proxy itself is usually at a private address.
	c.proxied.DialContext = (&net.Dialer{Timeout: c.connectWithin}).DialContext
	c.proxied.OnProxyConnectResponse = func(_ context.Context, _ *url.URL, _ *http.Request, answer *http.Response) error {
		if answer.StatusCode == http.StatusOK {
			return nil
		}
		return &Refusal{Reason: "the proxy answers " + statusLine(answer)}
	}
}

// exchange sends a request to its target, or to the proxy.
func (c *Client) exchange(request *http.Request) (*http.Response, error) {
	if c.proxy == nil {
		return c.transport.RoundTrip(request)
	}
	through, err := c.proxy(request)
	if err != nil {
		return nil, &Refusal{Reason: "the address of the proxy cannot be used"}
	}
	if through == nil {
		return c.transport.RoundTrip(request)
	}
	if err := c.checkAddresses(request.Context(), request.URL); err != nil {
		return nil, err
	}
	return c.proxied.RoundTrip(request)
}

// checkAddresses refuses a target that has a private address.
func (c *Client) checkAddresses(ctx context.Context, target *url.URL) error {
	ctx, cancel := context.WithTimeout(ctx, c.connectWithin)
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
		if err := c.guard.Safe(network, net.JoinHostPort(address.String(), "443"), nil); err != nil {
			return fmt.Errorf("check the address: %w", err)
		}
	}
	return nil
}
