package web_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// Any value in any field of any route gives an answer other than a server error.
func TestNonsenseIsTheCallersFault(t *testing.T) {
	values := map[string]string{
		"no schema": "nosuch.v", "no view": "nosuch", "too many parts": "a.b.c.d", "zero": "0", "a negative number": "-1",
		"a number": "2147483648", "a large number": strings.Repeat("9", 40), "nothing": "", "null": "null", "NUL": "\x00",
		"no UTF-8": "\xff\xfe", "a quote": `"`, "an apostrophe": "'", "a long name": strings.Repeat("x", 3000), "blanks": "  ",
		"braces": "{1,2", "a catalog": "pg_catalog.pg_class", "ours": "tinydevcrm.matviews", "an array": "{}", "infinity": "infinity",
	}
	routes := map[string][]string{
		"POST /upload-file": {"table", "mode", "key", "type", "null", "ragged", "header", "delimiter", "quote", "escape", "encoding", "skip", "distribute_by", "dry_run",
			"quoted_empty", "trim", "reject_limit", "columns", "skip_after_header", "skip_end", "comment", "new_columns", "missing_columns", "widen"},
		"POST /matviews/preview":        {"query"},
		"POST /matviews":                {"name", "query", "notify_when"},
		"POST /matviews/alter":          {"relation", "query"},
		"POST /matviews/watch":          {"relation", "notify_when", "ignored_columns", "notify_interval", "notify_after", "notify_deadline"},
		"GET /rules/replay":             {"relation", "notify_when", "notify_interval", "notify_after"},
		"POST /matviews/schedule":       {"relation", "schedule"},
		"POST /matviews/unschedule":     {"relation"},
		"POST /matviews/pause":          {"relation"},
		"POST /matviews/resume":         {"relation"},
		"POST /matviews/mute":           {"relation", "mute_for"},
		"POST /matviews/unmute":         {"relation"},
		"POST /matviews/refresh":        {"relation"},
		"POST /matviews/drop":           {"relation"},
		"POST /matviews/embed":          {"relation", "origins"},
		"POST /matviews/unembed":        {"relation"},
		"POST /subscriptions":           {"new_subscription", "new_matview", "url", "format", "headers", "recipients", "digest", "rules"},
		"POST /subscriptions/preview":   {"subscription", "title", "message"},
		"POST /subscriptions/digest":    {"subscription", "digest"},
		"POST /subscriptions/audience":  {"subscription", "rules", "to_column", "allowed_domains"},
		"POST /subscriptions/rotate":    {"subscription", "grace"},
		"POST /subscriptions/replay":    {"subscription", "replay_for"},
		"POST /subscriptions/alter":     {"subscription", "new_url", "format", "headers"},
		"POST /subscriptions/edit":      {"subscription", "title", "message"},
		"POST /subscriptions/test":      {"subscription"},
		"POST /subscriptions/pause":     {"subscription"},
		"POST /subscriptions/resume":    {"subscription"},
		"POST /subscriptions/mute":      {"subscription", "mute_for"},
		"POST /subscriptions/unmute":    {"subscription"},
		"POST /subscriptions/retry":     {"subscription"},
		"POST /subscriptions/redeliver": {"subscription"},
		"POST /subscriptions/drop":      {"subscription"},
		"POST /deliveries/redeliver":    {"delivery"},
		"GET /":                         {"table", "matview", "subscription", "of", "outcome", "before", "tables", "matviews", "subscriptions"},
		"GET /news":                     {"table", "matview", "subscription", "of", "outcome", "before"},
		"GET /schedules/describe":       {"schedule"},
		"GET /matviews":                 {"matviews"},
		"GET /subscriptions":            {"search", "sort", "page", "of"},
		"GET /subscriptions/":           {"kind", "before"},
		"GET /events":                   {"of", "outcome", "before"},
		"GET /matviews/":                {""},
		"GET /imports/":                 {""},
		"GET /embed/":                   {""},
	}
	// Other fields that a route needs.
	sound := map[string]string{
		"relation": "kept", "schedule": "1 hour", "name": "made", "query": "select 1 as n", "origins": "*",
		"new_subscription": "made", "subscription": "kept", "delivery": "1", "mute_for": "1 hour", "replay_for": "1 hour",
	}

	f := newFixture(t)
	f.exec("select tinydevcrm.create_matview('kept', 'select 1 as n')")
	for route, fields := range routes {
		method, path, _ := strings.Cut(route, " ")
		for _, name := range fields {
			for what, value := range values {
				given := url.Values{}
				for _, other := range fields {
					if method == "POST" && sound[other] != "" {
						given.Set(other, sound[other])
					}
				}
				given.Set(name, value)
				asked := request{method: method, path: path + "?" + given.Encode()}
				switch {
				case name == "":
					asked.path = path + url.PathEscape(value)
				case path == "/upload-file":
					asked = form("POST", path+"?"+given.Encode(), field{name: "file", file: "made.csv", value: "n\n1\n"})
				case method == "POST":
					asked.path, asked.body = path, given.Encode()
					asked.contentType = "application/x-www-form-urlencoded"
				}
				senders := map[string]request{"a program": asked}
				if method == "GET" {
					senders["a browser"] = asked.fromBrowser()
				}
				for who, sent := range senders {
					got := f.send(sent)
					if got.status >= http.StatusInternalServerError || strings.Contains(got.body, "internal error") {
						t.Errorf("%s, %s as %q, by %s: status %d: %.300s", route, what, name, who, got.status, got.body)
					}
				}
			}
		}
	}
	if log := f.log.String(); strings.Contains(log, `"ERROR"`) {
		t.Errorf("mistakes of the user are logged as errors: %.2000s", log)
	}
}
