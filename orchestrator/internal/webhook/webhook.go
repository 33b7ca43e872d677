// Package webhook sends a message to an HTTP endpoint, by the Standard Webhooks specification.
package webhook

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"code.dny.dev/ssrf"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const (
	attemptWithin = 15 * time.Second
	connectWithin = 5 * time.Second
	idleWithin    = 90 * time.Second
	maxRedirects  = 3
	maxIdle       = 100
	headerLimit   = 16 << 10
	// bodyLimit is enough of an answer for most connections to be used again. A longer one is
	// closed with its connection.
	bodyLimit = 4 << 10
)

// A Message is what an endpoint gets. Who sends it again keeps its ID, by which the endpoint knows
// it; the timestamp is that of the attempt.
type Message struct {
	ID   string
	Body []byte
}

// An Endpoint is where messages go. Each of the secrets signs, so that one can be changed while the
// other is still in use. They are written "whsec_<base64>".
type Endpoint struct {
	URL     string
	Secrets []string
}

// A Client sends messages. It is safe for use by many at once.
type Client struct {
	transport     *http.Transport
	attemptWithin time.Duration
	connectWithin time.Duration
}

// NewClient returns a Client that connects to public addresses, and to those of the allowed
// prefixes.
func NewClient(allowed []netip.Prefix) *Client {
	return newClient(allowed, attemptWithin, connectWithin)
}

func newClient(allowed []netip.Prefix, attemptWithin, connectWithin time.Duration) *Client {
	var v4, v6 []netip.Prefix
	for _, prefix := range allowed {
		if prefix.Addr().Is4() {
			v4 = append(v4, prefix)
		} else {
			v6 = append(v6, prefix)
		}
	}
	guard := ssrf.New(ssrf.WithAnyPort(), ssrf.WithAllowedV4Prefixes(v4...), ssrf.WithAllowedV6Prefixes(v6...))
	// Control sees the address that is connected to, so a name that resolves to another one the
	// second time gains nothing.
	dialer := &net.Dialer{Timeout: connectWithin, Control: guard.Safe}
	return &Client{
		attemptWithin: attemptWithin,
		connectWithin: connectWithin,
		// There is no proxy: it would connect in our place, behind the guard's back.
		transport: &http.Transport{
			DialContext:            dialer.DialContext,
			TLSHandshakeTimeout:    connectWithin,
			MaxResponseHeaderBytes: headerLimit,
			MaxIdleConns:           maxIdle,
			IdleConnTimeout:        idleWithin,
			DisableCompression:     true,
		},
	}
}

// Send makes one attempt. It returns nil when the endpoint accepts the message, and a Refusal when
// it does not or cannot be reached. When ctx ends first the error wraps ctx.Err() instead, because
// nothing is known of the endpoint.
func (c *Client) Send(ctx context.Context, endpoint Endpoint, message Message) error {
	header, err := sign(endpoint.Secrets, message, time.Now())
	if err != nil {
		return err
	}
	target, err := url.Parse(endpoint.URL)
	if err != nil {
		return &Refusal{Reason: "the URL cannot be parsed"}
	}
	if err := check(target); err != nil {
		return err
	}

	attempt, cancel := context.WithTimeout(ctx, c.attemptWithin)
	defer cancel()
	for range 1 + maxRedirects {
		request, err := http.NewRequestWithContext(attempt, http.MethodPost, target.String(), bytes.NewReader(message.Body))
		if err != nil {
			return &Refusal{Reason: "the URL cannot be requested"}
		}
		// The signature goes along with a redirect: it tells no more than the body that it signs,
		// and who is sent there has to verify it.
		request.Header = header
		// Not http.Client: it follows redirects that drop the body, and tells the next host the
		// whole URL of the last one.
		response, err := c.transport.RoundTrip(request)
		if err != nil {
			return c.explain(ctx, attempt, err)
		}
		body := read(response)
		if !keepsMethod(response.StatusCode) {
			return judge(response, body)
		}
		if target, err = follow(response); err != nil {
			return err
		}
	}
	return &Refusal{Reason: "more than " + strconv.Itoa(maxRedirects) + " redirects"}
}

// sign returns the header of an attempt that is made now.
func sign(secrets []string, message Message, now time.Time) (http.Header, error) {
	if len(secrets) == 0 {
		return nil, &Refusal{Reason: "the endpoint has no secret"}
	}
	signatures := make([]string, len(secrets))
	for i, secret := range secrets {
		// The library takes a secret without the prefix, and an empty one with which anybody signs.
		key, hasPrefix := strings.CutPrefix(secret, "whsec_")
		signer, err := standardwebhooks.NewWebhook(key)
		if err != nil || !hasPrefix || key == "" {
			return nil, &Refusal{Reason: "the secret is not whsec_ and base64"}
		}
		if signatures[i], err = signer.Sign(message.ID, now, message.Body); err != nil {
			return nil, &Refusal{Reason: "the message cannot be signed"}
		}
	}
	header := make(http.Header)
	header.Set("Content-Type", "application/json")
	header.Set("User-Agent", "TinyDevCRM")
	header.Set(standardwebhooks.HeaderWebhookID, message.ID)
	header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	header.Set(standardwebhooks.HeaderWebhookSignature, strings.Join(signatures, " "))
	// This key is not sent, but allows net/http to post again when a connection that it kept turns
	// out to be dead. The endpoint knows the message by its ID.
	header["Idempotency-Key"] = nil
	return header, nil
}

// check refuses a URL to which nothing is sent.
func check(target *url.URL) error {
	switch {
	case target.Scheme != "http" && target.Scheme != "https":
		return &Refusal{Reason: "the URL is neither http nor https"}
	case target.Hostname() == "":
		return &Refusal{Reason: "the URL has no host"}
	case target.User != nil:
		return &Refusal{Reason: "the URL has a user name or a password"}
	}
	return nil
}

func keepsMethod(status int) bool {
	return status == http.StatusTemporaryRedirect || status == http.StatusPermanentRedirect
}

// follow returns where a redirect leads.
func follow(response *http.Response) (*url.URL, error) {
	next, err := response.Location()
	if err != nil {
		return nil, &Refusal{Reason: statusLine(response) + ": without a usable Location"}
	}
	if err := check(next); err != nil {
		return nil, &Refusal{Reason: statusLine(response) + ": " + err.Error()}
	}
	if response.Request.URL.Scheme == "https" && next.Scheme == "http" {
		return nil, &Refusal{Reason: statusLine(response) + ": it leaves https"}
	}
	return next, nil
}

// read returns the start of the body and closes it. A body that breaks off does not change the
// answer, which is the status.
func read(response *http.Response) []byte {
	defer response.Body.Close()
	if response.StatusCode == http.StatusSwitchingProtocols {
		// This body is the bare connection, and reading it does not end with the context.
		return nil
	}
	body, _ := io.ReadAll(io.LimitReader(response.Body, bodyLimit))
	return body
}
