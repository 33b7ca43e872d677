// Package webhook sends a message to an HTTP endpoint. With a secret it signs it, by the Standard Webhooks
// specification.
package webhook

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/guard"
)

const (
	attemptWithin = 15 * time.Second
	connectWithin = 5 * time.Second
	maxRedirects  = 3
	// bodyLimit is how much of an answer is of use.
	bodyLimit = 4 << 10
	// drainLimit is how much more is read of a longer answer, so that its connection can be reused too.
	drainLimit = 60 << 10
)

// A Message is what an endpoint receives. A retry keeps the ID, by which the endpoint recognizes it; the
// timestamp is that of the attempt.
type Message struct {
	ID   string
	Body []byte
}

// An Endpoint is the receiver of messages.
type Endpoint struct {
	URL string
	// Each of the secrets signs the messages, so that one can be changed while the other is still in use. They are
	// written "whsec_<base64>". Without one, messages are not signed.
	Secrets []string
	// Headers are those of the endpoint's owner, which may be secrets. A redirect to another host does not get them.
	Headers map[string]string
	// Format is a row of tinydevcrm.webhook_formats: how the receiver wants its messages.
	Format string
	// Owner has connections of their own.
	Owner int64
}

// An Answer is what an endpoint answers, with the start of its body.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// A Client sends messages. It is safe for concurrent use.
type Client struct {
	network       *guard.Network
	attemptWithin time.Duration
	// owners have connections of their own.
	owners owners
}

// NewClient returns a Client that connects to public addresses, and to those of the allowed prefixes.
func NewClient(allowed []netip.Prefix) *Client {
	return newClient(allowed, attemptWithin, connectWithin)
}

func newClient(allowed []netip.Prefix, attemptWithin, connectWithin time.Duration) *Client {
	network := guard.New(allowed, connectWithin)
	keepConnections(network.Transport)
	return &Client{network: network, attemptWithin: attemptWithin, owners: owners{of: make(map[int64]*ownNetwork)}}
}

// UseProxy has the Client send through a proxy: see guard.Network.
func (c *Client) UseProxy(proxy func(*http.Request) (*url.URL, error)) { c.network.UseProxy(proxy) }

// Send makes one attempt. It returns nil when the endpoint accepts the message, and a Refusal when it does not
// or cannot be reached. When ctx ends first, the error wraps ctx.Err() instead, because nothing is known about
// the endpoint.
func (c *Client) Send(ctx context.Context, endpoint Endpoint, message Message) error {
	_, err := c.Post(ctx, endpoint, message)
	return err
}

// Post is Send that also returns the answer; nil when there is none.
func (c *Client) Post(ctx context.Context, endpoint Endpoint, message Message) (*Answer, error) {
	answer, err := c.post(ctx, endpoint, message)
	var refusal *Refusal
	if errors.As(err, &refusal) {
		refusal.Reason, refusal.Body = hide(refusal.Reason, endpoint), hide(refusal.Body, endpoint)
	}
	if answer != nil {
		answer.Body = []byte(hide(string(answer.Body), endpoint))
	}
	return answer, err
}

func (c *Client) post(ctx context.Context, endpoint Endpoint, message Message) (*Answer, error) {
	header, err := sign(endpoint.Secrets, message, time.Now())
	if err != nil {
		return nil, err
	}
	target, err := url.Parse(endpoint.URL)
	if err != nil {
		return nil, &Refusal{Reason: "the URL cannot be parsed"}
	}
	if err := check(target); err != nil {
		return nil, err
	}

	attempt, cancel := context.WithTimeout(ctx, c.attemptWithin)
	defer cancel()
	network, release := c.owners.take(endpoint.Owner, c.network)
	defer release()
	own := target.Host
	for range 1 + maxRedirects {
		request, err := http.NewRequestWithContext(attempt, http.MethodPost, target.String(), bytes.NewReader(message.Body))
		if err != nil {
			return nil, &Refusal{Reason: "the URL cannot be requested"}
		}
		// The signature is sent along with a redirect. It reveals no more than the body that it signs, and
		// the new endpoint has to verify it.
		request.Header = header.Clone()
		if target.Host == own {
			for name, value := range endpoint.Headers {
				request.Header.Set(name, value)
			}
		}
		// Not http.Client: it follows redirects that drop the body, and sends the whole URL of the last host
		// to the next one.
		response, err := network.RoundTrip(request)
		if err != nil {
			return nil, c.explain(ctx, attempt, err)
		}
		answer := &Answer{Status: response.StatusCode, Header: response.Header, Body: read(response)}
		if !keepsMethod(response.StatusCode) {
			return answer, judge(response, answer.Body)
		}
		if target, err = follow(response); err != nil {
			return answer, err
		}
	}
	return nil, &Refusal{Reason: "more than " + strconv.Itoa(maxRedirects) + " redirects"}
}

// sign returns the header of an attempt that is made now.
func sign(secrets []string, message Message, now time.Time) (http.Header, error) {
	header := make(http.Header)
	header.Set("Content-Type", "application/json")
	header.Set("User-Agent", "TinyDevCRM")
	// This key is not sent, but allows net/http to repeat a post when a connection that it kept turns out to
	// be dead. The endpoint recognizes the message by its ID.
	header["Idempotency-Key"] = nil
	if len(secrets) == 0 {
		return header, nil
	}
	signatures := make([]string, len(secrets))
	for i, secret := range secrets {
		// The library accepts a secret without the prefix, and an empty one, with which anybody could sign.
		key, hasPrefix := strings.CutPrefix(secret, "whsec_")
		signer, err := standardwebhooks.NewWebhook(key)
		if err != nil || !hasPrefix || key == "" {
			return nil, &Refusal{Reason: "the secret is not whsec_ followed by base64"}
		}
		if signatures[i], err = signer.Sign(message.ID, now, message.Body); err != nil {
			return nil, &Refusal{Reason: "the message cannot be signed"}
		}
	}
	header.Set(standardwebhooks.HeaderWebhookID, message.ID)
	header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	header.Set(standardwebhooks.HeaderWebhookSignature, strings.Join(signatures, " "))
	return header, nil
}

// check refuses a URL to which nothing may be sent.
func check(target *url.URL) error {
	if err := guard.CheckURL(target); err != nil {
		return &Refusal{Reason: err.Error()}
	}
	return nil
}

func keepsMethod(status int) bool {
	return status == http.StatusTemporaryRedirect || status == http.StatusPermanentRedirect
}

// follow returns the target of a redirect.
func follow(response *http.Response) (*url.URL, error) {
	next, err := response.Location()
	if err != nil {
		return nil, &Refusal{Reason: guard.StatusLine(response) + ": no usable Location"}
	}
	if err := check(next); err != nil {
		return nil, &Refusal{Reason: guard.StatusLine(response) + ": " + err.Error()}
	}
	if response.Request.URL.Scheme == "https" && next.Scheme == "http" {
		return nil, &Refusal{Reason: guard.StatusLine(response) + ": the redirect leaves https"}
	}
	return next, nil
}

// read returns the start of the body, unpacked, and closes it. When the body ends early, the answer is still the
// status.
func read(response *http.Response) []byte {
	defer response.Body.Close()
	if response.StatusCode == http.StatusSwitchingProtocols {
		// This body is the bare connection, and reading it does not end with the context.
		return nil
	}
	body, _ := io.ReadAll(io.LimitReader(response.Body, bodyLimit))
	_, _ = io.CopyN(io.Discard, response.Body, drainLimit)
	if encoding := response.Header.Get("Content-Encoding"); !strings.EqualFold(encoding, "gzip") {
		return body
	}
	// We did not ask for it, but some servers pack their errors all the same.
	unpacked, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return body
	}
	text, _ := io.ReadAll(io.LimitReader(unpacked, bodyLimit))
	return text
}
