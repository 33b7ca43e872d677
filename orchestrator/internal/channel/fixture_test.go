package channel_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/channel"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/webhook"
)

func TestMain(m *testing.M) { os.Exit(dbtest.Main(m)) }

const publicURL = "https://crm.example.com"

// nasty is what does nothing in a message: markup and mentions of all receivers, templates, line ends, and characters
// that change the direction of text.
const nasty = "<script>alert(1)</script> <!channel> <@U1|x> @everyone @channel <users/all> <at>x</at> *b* _i_ ~s~ `c` ```c``` " +
	"**b** [l](https://evil.example) # h {{row_count}} {{{rows}}} &amp; \"q\" 'q' \\ \r\nX-Evil: 1\r\n\r\n- item \u202Egnp.exe\u0007"

// An event is what an event of a test has besides its id, view and time.
type event map[string]any

// A case is an event, and the other views that fail with it.
type testCase struct {
	event  event
	others []string
}

func rowsOf(count int) []map[string]any {
	rows := make([]map[string]any, count)
	for i := range rows {
		rows[i] = map[string]any{"number": 1001 + i, "customer": "Birch & Co", "due": "2026-01-31", "amount": 450.5}
	}
	return rows
}

// asText are rows as a column of type text has them, in the order of the view's columns.
func asText(count int) string {
	texts := make([]string, count)
	for i := range texts {
		texts[i] = fmt.Sprintf(`{"number": %d, "customer": "Birch & Co", "due": "2026-01-31", "amount": 450.5}`, 1001+i)
	}
	return "[" + strings.Join(texts, ", ") + "]"
}

func cases() map[string]testCase {
	columns := []string{"number", "customer", "due", "amount"}
	return map[string]testCase{
		"added": {event: event{"outcome": "refreshed", "row_count": 160, "added_count": 154, "removed_count": 0, "updated_count": 0,
			"columns": columns, "rows": rowsOf(3), "added_rows": asText(3), "removed_rows": "[]", "updated_rows": "[]", "is_cut": true}},
		"changed": {event: event{"outcome": "refreshed", "row_count": 7, "added_count": 2, "removed_count": 2, "updated_count": 1,
			"columns": columns, "rows": rowsOf(3), "added_rows": asText(1), "removed_rows": asText(1),
			"updated_rows": `[{"key": {"number": 1002}, "old": {"number": 1002, "customer": "Birch & Co", "due": "2026-01-31", "amount": 450.5},` +
				` "new": {"number": 1002, "customer": "Birch & Co", "due": null, "amount": 12345678901234567890.5}}]`}},
		"failed":    {event: event{"outcome": "failed", "error_code": "22012", "error_message": "division by zero"}, others: []string{"public.open", "sales.late"}},
		"recovered": {event: event{"outcome": "recovered", "row_count": 1, "columns": columns, "rows": rowsOf(1)}},
		"ended":     {event: event{"outcome": "refreshed", "row_count": 0}},
		"late":      {event: event{"outcome": "late", "reason": "its schedule 5 minutes was due at 2026-02-15 08:00:00 UTC: pg_cron is not running"}},
		"injection": {
			event: event{"matview": `public."` + nasty + `"`, "outcome": "refreshed", "row_count": 1, "reason": nasty,
				"plain_reason": nasty, "columns": []string{nasty, "b"}, "rows": []map[string]any{{nasty: nasty, "b": nasty}}},
			others: []string{nasty},
		},
	}
}

// long are events that no receiver takes as they are; their messages are checked, and not kept.
func long() map[string]testCase {
	wide := make([]map[string]any, 50)
	var columns []string
	for i := range 30 {
		columns = append(columns, strings.Repeat("column 🐘", 6)+string(rune('A'+i)))
	}
	for i := range wide {
		wide[i] = map[string]any{}
		for _, column := range columns {
			wide[i][column] = strings.Repeat("<🐘*`", 30)
		}
	}
	name := strings.Repeat("ü<", 60)
	return map[string]testCase{
		"long rows":   {event: event{"matview": name, "outcome": "refreshed", "row_count": 5000, "columns": columns, "rows": wide}},
		"long error":  {event: event{"matview": name, "outcome": "failed", "error_code": "P0001", "error_message": strings.Repeat("*<🐘\n", 1900)}},
		"long reason": {event: event{"matview": name, "outcome": "late", "reason": strings.Repeat("\"", 9000)}, others: strings.Split(strings.Repeat(name+",", 1000), ",")},
	}
}

// notification is what SQL gives the orchestrator for an event: the words, and the limits of the format.
func notification(t *testing.T, tx *sql.Tx, subscription string, c testCase) []byte {
	t.Helper()
	whole := map[string]any{"id": 17, "matview": "public.overdue", "is_notified": true, "started_at": "2026-02-15T08:00:05+00:00", "duration": "0.25 s", "is_cut": false}
	for name, value := range c.event {
		whole[name] = value
	}
	var others []map[string]any
	for _, name := range c.others {
		others = append(others, map[string]any{"id": 18, "matview": name})
	}
	document, err := json.Marshal([]any{whole, others})
	if err != nil {
		t.Fatal(err)
	}
	var body string
	if err := tx.QueryRowContext(t.Context(), `
		select tinydevcrm._build_notification(
		           subscriptions.id,
		           jsonb_populate_record(
		               null::tinydevcrm.matview_refresh_events,
		               $2::jsonb -> 0 || jsonb_build_object('matview_id', subscriptions.matview_id)),
		           null,
		           nullif($2::jsonb -> 1, 'null')::json)
		  from tinydevcrm.subscriptions
		 where name = $1`, subscription, string(document)).Scan(&body); err != nil {
		t.Fatal(err)
	}
	return []byte(body)
}

// created returns a transaction with a webhook of each format, named like it, and where they post.
func created(t *testing.T) (*sql.Tx, map[string]string) {
	t.Helper()
	pool, _ := dbtest.Schema(t)
	tx, err := pool.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tx.Rollback() })
	for _, statement := range []string{
		"select tinydevcrm.create_matview('overdue', 'select 1 as one')",
		"comment on materialized view overdue is 'Invoices that nobody has paid'",
		`select tinydevcrm.create_webhook(name, example_url, 'overdue', format => name)
		   from tinydevcrm.webhook_formats
		  where name not in ('standard', 'email')`,
	} {
		if _, err := tx.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	rows, err := tx.QueryContext(t.Context(), "select format, url from tinydevcrm.webhooks")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	urls := make(map[string]string)
	for rows.Next() {
		var format, url string
		if err := rows.Scan(&format, &url); err != nil {
			t.Fatal(err)
		}
		urls[format] = url
	}
	return tx, urls
}

// A received is what a receiver got.
type received struct {
	path, query string
	header      http.Header
	body        []byte
}

// A receiver answers as the service that it stands for does.
type receiver struct {
	server *httptest.Server
	got    received
}

// receive serves a format. check says what the service would refuse; "" for nothing.
func receive(t *testing.T, format string, check func(received) string) *receiver {
	t.Helper()
	r := &receiver{}
	r.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		body, _ := io.ReadAll(request.Body)
		r.got = received{request.URL.Path, request.URL.RawQuery, request.Header, body}
		if problem := check(r.got); problem != "" {
			w.WriteHeader(http.StatusBadRequest)
			io.WriteString(w, problem)
			return
		}
		if format == "teams" || format == "pagerduty" {
			w.WriteHeader(http.StatusAccepted)
		}
	}))
	t.Cleanup(r.server.Close)
	return r
}

// at is the URL of a service, at the receiver.
func (r *receiver) at(t *testing.T, of string) string {
	t.Helper()
	place, err := url.Parse(of)
	if err != nil {
		t.Fatal(err)
	}
	here, err := url.Parse(r.server.URL)
	if err != nil {
		t.Fatal(err)
	}
	place.Scheme, place.Host = here.Scheme, here.Host
	return place.String()
}

func newSender() *channel.Sender {
	return channel.NewSender(webhook.NewClient([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}), publicURL)
}

func send(ctx context.Context, format, url string, body []byte) error {
	return newSender().Send(ctx, webhook.Endpoint{URL: url, Format: format}, webhook.Message{ID: "event_17", Body: body})
}
