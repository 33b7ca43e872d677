package webhook

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/guard"
)

// shortestSecret is how long a part of a header or of a URL is that could be a secret.
const shortestSecret = 8

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
	if text := guard.Excerpt(string(body)); text != "" {
		reason += ": " + text
	}
	return &Refusal{
		Status:     response.StatusCode,
		Reason:     reason,
		RetryAfter: guard.RetryAfter(response.Header.Get("Retry-After"), time.Now()),
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
	return guard.Excerpt(shown.String())
}

// explain says why there is no answer.
func (c *Client) explain(ctx, attempt context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("send a message: %w", ctx.Err())
	case attempt.Err() != nil:
		return &Refusal{Reason: fmt.Sprintf("no answer within %v", c.attemptWithin)}
	}
	return &Refusal{Reason: c.network.Explain(err)}
}
