package web_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/trial"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/webhook"
)

// The templates of a subscription are saved, shown in their form, and previewed as text: neither they nor the data
// are markup of the page.
func TestPageEditsMessages(t *testing.T) {
	f := newFixture(t)
	f.exec("select tinydevcrm.create_webhook('hook', 'https://hooks.slack.com/services/T0/B0/x')")
	f.watch("evil", "select '<b>{{view}}</b>' as cell")
	f.refresh("evil")
	const template = "<i>{{#rows}}{{cell}}{{/rows}}</i>\r\n{{link}}"

	f.send(get("/subscriptions/hook").fromBrowser())
	page := f.follow(post("/subscriptions/edit", "subscription", "hook", "title", "{{row_count}} rows", "message", template).fromBrowser()).body
	for _, want := range []string{
		"<p><b>1 rows</b></p>\n<p>&lt;i&gt;&lt;b&gt;{{view}}&lt;/b&gt;&lt;/i&gt;",
		`value="{{row_count}} rows"`,
		">&lt;i&gt;{{#rows}}{{cell}}{{/rows}}&lt;/i&gt;\n{{link}}</textarea>",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q: %s", want, page)
		}
	}

	page = f.follow(post("/subscriptions/edit", "subscription", "hook", "title", "mistyped {{", "message", "")).body
	if !strings.Contains(page, "the template of the title: a tag has no end") || !strings.Contains(page, `value="mistyped {{"`) {
		t.Errorf("a malformed template: %s", page)
	}

	got := f.send(post("/subscriptions/edit", "subscription", "hook", "title", "", "message", "{{outcome}}"))
	if want := `{"subscription":"hook","title":"` + f.schema + `.evil: 1 row","message":"refreshed","link":""}`; got.status != 200 || strings.TrimSpace(got.body) != want {
		t.Errorf("a program got %d %s, want %s", got.status, got.body, want)
	}
}

func TestPageTestsSubscriptions(t *testing.T) {
	f := newFixture(t)
	f.exec("select tinydevcrm.create_webhook('good', 'https://example.com/good')")
	f.exec("select tinydevcrm.create_webhook('bad', 'https://example.com/bad')")
	f.exec("select tinydevcrm.create_subscription('worker')")

	ctx, cancel := context.WithCancel(t.Context())
	runner := trial.NewRunner(f.pool, func(_ context.Context, to webhook.Endpoint, _ webhook.Message) (*webhook.Answer, error) {
		if strings.HasSuffix(to.URL, "/bad") {
			return nil, &webhook.Refusal{Status: 404, Reason: "404 Not Found", Body: "no_<b>service"}
		}
		return &webhook.Answer{Status: 202, Body: []byte("queued")}, nil
	}, slog.New(slog.DiscardHandler))
	// Nobody listens here, so that something else wakes it.
	wake := make(chan int64)
	var running sync.WaitGroup
	running.Go(func() { _ = runner.Run(ctx, wake) })
	running.Go(func() {
		ticker := time.NewTicker(50 * time.Millisecond)
		defer ticker.Stop()
		for ctx.Err() == nil {
			<-ticker.C
			select {
			case wake <- 0:
			case <-ctx.Done():
			}
		}
	})
	defer running.Wait()
	defer cancel()

	f.send(get("/subscriptions/good").fromBrowser())
	page := f.follow(post("/subscriptions/test", "subscription", "good").fromBrowser()).body
	if !strings.Contains(page, "Subscription good: the test was accepted after ") || !strings.Contains(page, `<pre tabindex="0">queued</pre>`) {
		t.Errorf("an accepted test: %s", page)
	}
	got := f.send(post("/subscriptions/test", "subscription", "bad"))
	if got.status != 200 || !strings.HasPrefix(got.body, `{"subscription":"bad","status":404,`) || !strings.HasSuffix(strings.TrimSpace(got.body), `"error":"404 Not Found"}`) {
		t.Errorf("a refused test: %d %s", got.status, got.body)
	}
	if got := f.send(post("/subscriptions/test", "subscription", "worker")); got.status != 422 || !strings.Contains(got.body, "TD007") {
		t.Errorf("a worker: %d %s", got.status, got.body)
	}
	for range 4 {
		f.send(post("/subscriptions/test", "subscription", "good"))
	}
	if got := f.send(post("/subscriptions/test", "subscription", "good")); got.status != 409 || !strings.Contains(got.body, "five tests") {
		t.Errorf("the sixth test: %d %s", got.status, got.body)
	}
}

// The links of notifications lead to the view, with the event on top, and to the subscription.
func TestLinksOfNotifications(t *testing.T) {
	f := newFixture(t)
	f.watch("50% off/now", "select 1 as n")
	f.exec("select tinydevcrm.create_subscription('a b')")
	f.exec("select tinydevcrm.refresh_matview('\"50% off/now\"')")
	event := dbtest.Value[int64](t, f.pool, `select max(id) from tinydevcrm.matview_refresh_events where matview like '%50\% off/now"' and is_notified`)
	view := "/views/" + f.schema + ".%2250%25%20off%2Fnow%22?event="
	const onTop = "The event of your notification"
	for path, says := range map[string][]string{
		fmt.Sprint(view, event): {"50% off/now", onTop, fmt.Sprintf(`data-id="%d"`, event)},
		"/subscriptions/a%20b":  {"a b"},
		view + "9000000000":     {"50% off/now"},
	} {
		page := f.send(get(path).fromBrowser())
		for _, part := range says {
			if page.status != 200 || !strings.Contains(page.body, part) {
				t.Errorf("%s: status %d, without %s", path, page.status, part)
			}
		}
		if len(says) == 1 && strings.Contains(page.body, onTop) {
			t.Errorf("%s shows an event", path)
		}
	}
}
