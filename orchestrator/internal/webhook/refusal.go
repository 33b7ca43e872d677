package webhook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/guard"
)

const (
	excerptLimit = 200
	// shortestSecret is how long a part of a header or of a URL is that could be a secret.
	shortestSecret = 8
	maxSeconds     = int64(math.MaxInt64 / time.Second)
)

// A Refusal is the endpoint's answer or failure. tinydevcrm._refuse_post() decides what follows from it.
type Refusal struct {
	// Status is that of the answer; 0 when there is no valid answer.
	Status int
	// Reason is one printable line, without the URL, whose path and query may hold a token.
	Reason string
	// RetryAfter is how long the endpoint asks to wait; 0 when it does not ask.
	RetryAfter time.Duration
	// Body is the start of the answer's body.
	Body string
	// SentTo are the recipients of an e-mail that have got it all the same, separated by spaces.
	SentTo string
	// IsFinal says that no retry can help.
	IsFinal bool
}

func (r *Refusal) Error() string { return r.Reason }

// judge turns an answer into nil or a Refusal.
func judge(response *http.Response, body []byte) error {
	if response.StatusCode >= 200 && response.StatusCode <= 299 {
		return nil
	}
	reason := guard.StatusLine(response)
	if location := shownLocation(response); location != "" {
		reason += " to " + location
	}
	if text := excerpt(string(body)); text != "" {
		reason += ": " + text
	}
	return &Refusal{
		Status:     response.StatusCode,
		Reason:     reason,
		RetryAfter: retryAfter(response.Header.Get("Retry-After"), time.Now()),
		Body:       string(body),
	}
}

// hide replaces what an answer repeats of the secrets of the request: values of the owner's headers, and the path and
// query of the URL.
func hide(reason string, endpoint Endpoint) string {
	var secrets []string
	for _, value := range endpoint.Headers {
		secrets = append(secrets, value)
		secrets = append(secrets, strings.Fields(value)...)
	}
	_, place, _ := strings.Cut(endpoint.URL, "://")
	_, path, _ := strings.Cut(place, "/")
	secrets = append(secrets, path)
	for _, part := range strings.FieldsFunc(path, func(r rune) bool { return strings.ContainsRune("/?&=", r) }) {
		// Others are words.
		if strings.ContainsAny(part, "0123456789") {
			secrets = append(secrets, part)
		}
	}
	// The longest first: it may contain others.
	slices.SortFunc(secrets, func(a, b string) int { return len(b) - len(a) })
	for _, secret := range secrets {
		if len(secret) >= shortestSecret {
			reason = strings.ReplaceAll(reason, secret, "…")
		}
	}
	return reason
}

// shownLocation is where a redirect leads, without what may hold a token or a password.
func shownLocation(response *http.Response) string {
	location, err := response.Location()
	if err != nil || response.StatusCode < 300 || response.StatusCode > 399 {
		return ""
	}
	shown := url.URL{Scheme: location.Scheme, Host: location.Host, Path: location.Path}
	return excerpt(shown.String())
}

// retryAfter reads a number of seconds or a date; anything else counts as none.
func retryAfter(value string, now time.Time) time.Duration {
	// A number that is out of range is returned as the largest or smallest possible one.
	seconds, err := strconv.ParseInt(value, 10, 64)
	if err == nil || errors.Is(err, strconv.ErrRange) {
		return time.Duration(min(max(seconds, 0), maxSeconds)) * time.Second
	}
	date, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return max(date.Sub(now), 0)
}

// explain says why there is no answer.
func (c *Client) explain(ctx, attempt context.Context, err error) error {
	var name *net.DNSError
	var timeout net.Error
	var proxy guard.ProxyError
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("send a message: %w", ctx.Err())
	case attempt.Err() != nil:
		return &Refusal{Reason: fmt.Sprintf("no answer within %v", c.attemptWithin)}
	case errors.As(err, &proxy):
		return &Refusal{Reason: proxy.Error()}
	case guard.IsPrivate(err):
		return &Refusal{Reason: "the address is private; --allow-webhooks-to allows it"}
	case errors.As(err, &name):
		return &Refusal{Reason: "the host name cannot be resolved: " + excerpt(name.Err)}
	case errors.As(err, &timeout) && timeout.Timeout():
		return &Refusal{Reason: fmt.Sprintf("no connection within %v", c.connectWithin)}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return &Refusal{Reason: "the connection was closed without an answer"}
	}
	// The error that wraps the cause says that there was a connection, and to which address.
	for cause := err; cause != nil; cause = errors.Unwrap(cause) {
		err = cause
	}
	return &Refusal{Reason: excerpt(err.Error())}
}

// excerpt returns one short line that a terminal and a database accept.
func excerpt(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool {
		return unicode.IsSpace(r) || !unicode.IsPrint(r)
	}), " ")
	if len(text) > excerptLimit {
		text = strings.ToValidUTF8(text[:excerptLimit], "") + "…"
	}
	return text
}
