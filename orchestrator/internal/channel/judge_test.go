package channel_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/webhook"
)

// A receiver says in the body of its answer how long to wait, or that it is gone.
func TestRefusalsAreReadAsTheReceiverMeansThem(t *testing.T) {
	const notification = `{"title": "t", "summary": "s", "path": "/views/v", "matview": "v"}`
	for _, test := range []struct {
		name, format, header string
		status               int
		body                 string
		want                 int
		wait                 time.Duration
	}{
		{"accepted", "slack", "", 200, "ok", 0, 0},
		{"accepted without a body", "teams", "", 202, "", 0, 0},
		{"telegram is too fast", "telegram", "", 429, `{"ok":false,"error_code":429,"parameters":{"retry_after":35}}`, 429, 35 * time.Second},
		{"discord is too fast", "discord", "", 429, `{"message":"You are being rate limited.","retry_after":64.57,"global":false}`, 429, 65 * time.Second},
		{"the header is longer", "discord", "100", 429, `{"retry_after":1.5}`, 429, 100 * time.Second},
		{"slack is too fast", "slack", "30", 429, "rate_limited", 429, 30 * time.Second},
		{"a wait that is no number", "discord", "", 429, `{"retry_after":"soon"}`, 429, 0},
		{"a wait below zero", "discord", "", 429, `{"retry_after":-5}`, 429, 0},
		{"a wait of centuries", "discord", "", 429, `{"retry_after":1e300}`, 429, 90 * 24 * time.Hour},
		{"pagerduty is too fast", "pagerduty", "", 429, "", 429, 0},
		{"slack's webhook is deleted", "slack", "", 404, "no_service", 410, 0},
		{"slack's app is removed", "slack", "", 403, "invalid_token\n", 410, 0},
		{"slack's channel is archived", "slack", "", 410, "channel_is_archived", 410, 0},
		{"slack's administrator forbids", "slack", "", 403, "action_prohibited", 403, 0},
		{"slack's payload", "slack", "", 400, "invalid_payload", 400, 0},
		{"discord's webhook is deleted", "discord", "", 404, `{"message":"Unknown Webhook","code":10015}`, 410, 0},
		{"discord's token is wrong", "discord", "", 401, `{"message":"Invalid Webhook Token","code":50027}`, 410, 0},
		{"something else is not found", "discord", "", 404, `{"message":"404: Not Found","code":0}`, 404, 0},
		{"telegram's bot was removed", "telegram", "", 403, `{"ok":false,"error_code":403,"description":"Forbidden: bot was kicked"}`, 410, 0},
		{"telegram's token is revoked", "telegram", "", 401, `{"ok":false,"error_code":401,"description":"Unauthorized"}`, 410, 0},
		{"pagerduty's event", "pagerduty", "", 400, `{"status":"invalid event"}`, 400, 0},
		{"teams is overloaded", "teams", "", 502, "<html>", 502, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if test.header != "" {
					w.Header().Set("Retry-After", test.header)
				}
				w.WriteHeader(test.status)
				io.WriteString(w, test.body)
			}))
			t.Cleanup(server.Close)
			err := send(t.Context(), test.format, server.URL+"/in", []byte(notification))
			var refusal *webhook.Refusal
			switch {
			case test.want == 0 && err != nil:
				t.Errorf("refused: %v", err)
			case test.want == 0:
			case !errors.As(err, &refusal):
				t.Errorf("got %v, want a Refusal", err)
			case refusal.Status != test.want || refusal.RetryAfter != test.wait:
				t.Errorf("status %d, wait %s; want %d, %s", refusal.Status, refusal.RetryAfter, test.want, test.wait)
			case !strings.Contains(refusal.Reason, http.StatusText(test.status)):
				t.Errorf("reason %q hides the answer", refusal.Reason)
			}
		})
	}
}

// A format that a newer migration knows, or a URL that is none, is a refusal of the message, and no panic.
func TestWhatCannotBeBuiltIsRefused(t *testing.T) {
	for _, test := range []struct{ name, format, url, body string }{
		{"format", "fax", "https://example.com/", `{"title": "t"}`},
		{"URL", "slack", "https://exa mple.com/%zz", `{"title": "t"}`},
		{"notification", "slack", "https://example.com/", `[`},
	} {
		t.Run(test.name, func(t *testing.T) {
			var refusal *webhook.Refusal
			if err := send(t.Context(), test.format, test.url, []byte(test.body)); !errors.As(err, &refusal) || refusal.Status != 422 {
				t.Errorf("got %v, want a Refusal with 422", err)
			}
		})
	}
}
