package web_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// useSubscriptions makes a view with five events, and a webhook with a delivery of each kind: acknowledged, parked,
// failing, in flight and pending.
func (f *fixture) useSubscriptions() {
	f.t.Helper()
	f.exec(`create table debts (customer text, amount numeric)`)
	f.exec(`insert into debts values ('Ann', 10), ('<b>Bob</b>', 20)`)
	f.exec(`select tinydevcrm.create_matview('overdue', 'select * from debts', 'always')`)
	f.exec(`select tinydevcrm.create_webhook('hook', 'https://example.com/in', headers => '{"X-Key": "s3cret"}')`)
	f.exec(`update tinydevcrm.subscriptions set max_attempts = 1 where name = 'hook'`)
	for range 5 {
		f.refresh("overdue")
	}
	f.exec(`select tinydevcrm.acknowledge_events(array_agg(delivery_id)) from tinydevcrm.receive_events('hook', 1)`)
	f.exec(`select tinydevcrm.reject_event(delivery_id, '500 Internal Server Error') from tinydevcrm.receive_events('hook', 1)`)
	f.exec(`update tinydevcrm.subscriptions set max_attempts = 12 where name = 'hook'`)
	f.exec(`select tinydevcrm.reject_event(delivery_id, '503 Service Unavailable') from tinydevcrm.receive_events('hook', 1)`)
	// Its next attempt is in some seconds. No test is over by then.
	f.exec(`update tinydevcrm.deliveries set visible_at = now() + interval '1 hour' where last_error like '503%'`)
}

func TestSubscriptionsScreen(t *testing.T) {
	f := newFixture(t)
	b := newBrowser(t)
	b.checkEveryLook("no subscriptions", f.server.URL+"/subscriptions")
	b.expect("#subscriptions .empty", "No subscriptions yet.")

	f.useSubscriptions()
	f.exec(`select tinydevcrm.create_subscription('a worker of ' || repeat('long ', 20), 'overdue')`)
	b.do("open the subscriptions", chromedp.Navigate(f.server.URL+"/subscriptions"))
	b.expect("#subscriptions tbody tr:first-child td", "failing")
	b.expect("#subscriptions tbody tr:first-child td:nth-child(6)", "1")
	b.checkLooks("subscriptions")
	b.takeScreenshots("subscriptions")
	b.press("#subscriptions tbody tr:first-child a")
	b.expect("h1", "hook")
	b.expect("#state dd.bad", "failing")
	b.expect("#deliveries tbody tr:nth-child(5) td", "acknowledged")
	b.expect("#deliveries tbody tr:nth-child(4) .why", "500 Internal Server Error")
	b.expect("#deliveries tbody tr:nth-child(3) .why:last-child", "next attempt in ")
	b.checkLooks("a subscription")
	b.takeScreenshots("subscription")

	// What is new appears by itself.
	event := f.refresh("overdue")
	b.do("wait for the new delivery", chromedp.WaitVisible(chromedp.CSS(fmt.Sprintf(`#deliveries [data-event="%d"]`, event))))

	b.press(`.tabs li:nth-child(4) a`)
	b.expect("#deliveries tbody tr:only-child .why", "500 Internal Server Error")
	b.press("#deliveries tbody button")
	b.expect("#deliveries .done", "pending again")
	b.expect("#deliveries .empty", "No such deliveries.")

	// A new webhook: its secret is shown and copied, also after a reload.
	b.do("a new one", chromedp.Navigate(f.server.URL+"/subscriptions/new?view=overdue"))
	b.checkLooks("a new subscription")
	b.fill("#new-name", "it's new")
	b.fill("#new-url", "https://example.com/new")
	b.waitFor("the SQL follows", `document.querySelector('#new .sql').textContent.includes("'it''s new', 'https://example.com/new'")`)
	b.takeScreenshots("subscription-new")
	b.press("#new form button")
	b.expect("h1", "it's new")
	secret := b.text(".done .snippet")
	b.checkLooks("a created subscription")
	b.do("reload", chromedp.Reload())
	b.expect(".done .snippet", secret)
	b.press("#secret form button")
	if again := b.text(".done .snippet"); again == secret || !strings.HasPrefix(again, "whsec_") {
		t.Errorf("the new secret is %q, the old one %q", again, secret)
	}
	b.press(`[formaction="/subscriptions/unmute"], [action="/subscriptions/mute"] button`)
	b.expect(".done", "is muted")
	b.press(`[formaction="/subscriptions/unmute"]`)
	b.expect(".done", "no longer muted")
	b.checkErrors()
}

// By keyboard alone, without JavaScript: a chat with a template, from its form to its end.
func TestSubscriptionsScreenWithoutJavaScript(t *testing.T) {
	f := newFixture(t)
	f.useSubscriptions()
	b := newBrowser(t)
	b.do("switch JavaScript off", call(emulation.SetScriptExecutionDisabled,
		emulation.SetScriptExecutionDisabledParams{Value: true}))
	b.do("a new one", chromedp.Navigate(f.server.URL+"/subscriptions/new"))
	b.do("a name in use", chromedp.SetValue(chromedp.CSS("#new-name"), "hook"))
	b.do("its URL", chromedp.SetValue(chromedp.CSS("#new-url"), "https://hooks.slack.com/services/T0/B0/secret"))
	b.press("#new form button")
	b.expect("#new .problem", "is there already")
	b.do("another name", chromedp.SetValue(chromedp.CSS("#new-name"), "chat"))
	b.press("#new form button")
	b.expect("h1", "chat")
	b.expect("#state", "https://hooks.slack.com/…cret")

	b.expect("#preview", "overdue")
	b.do("a template", chromedp.SetValue(chromedp.CSS("#message-template"), "{{#rows}}{{customer}} owes {{amount}}; {{/rows}}"))
	b.press(`[formaction^="/subscriptions/preview"]`)
	b.expect("#preview", "Ann owes 10; <b>Bob</b> owes 20;")
	if got := f.number(`select count(*) from tinydevcrm.subscriptions where message is not null`); got != 0 {
		t.Error("the preview has saved the template")
	}
	b.press(`#message button:not([formaction])`)
	b.expect("#message .done", "saved")
	b.do("a wrong one", chromedp.SetValue(chromedp.CSS("#message-template"), "{{#rows}}"))
	b.press(`#message button:not([formaction])`)
	b.expect("#message .problem", "template")
	if got := b.value("#message-template"); got != "{{#rows}}" {
		t.Errorf("the field has %q", got)
	}

	b.do("why", chromedp.SetValue(chromedp.CSS("#pause-reason"), "deploying"))
	b.press(`[action="/subscriptions/pause"] button`)
	b.expect("#state dd", "paused: deploying")
	b.press(`[formaction="/subscriptions/resume"]`)
	b.expect("#state dd.good", "ok")
	b.click("#drop [type=checkbox]")
	b.press("#drop button")
	b.expect(".done", "is dropped")
	b.expect("#subscriptions tbody tr:only-child th", "hook")
	b.checkErrors()
}

func TestSubscriptionRoutes(t *testing.T) {
	f := newFixture(t)
	f.useSubscriptions()
	name := "of / and ? 100%"
	f.exec(`select tinydevcrm.create_subscription($1, 'overdue')`, name)
	f.exec(`select tinydevcrm.create_webhook('slack', 'https://hooks.slack.com/services/T0/B0/secret')`)
	for _, test := range []struct {
		path, accept, says string
		status             int
	}{
		{"/subscriptions/hook", "", `"subscription":"hook"`, http.StatusOK},
		{"/subscriptions/hook", "text/html", "X-Key", http.StatusOK},
		{"/subscriptions/of%20%2F%20and%20%3F%20100%25", "text/html", "<h1>" + name + "</h1>", http.StatusOK},
		{"/subscriptions?search=HOO", "text/html", "/subscriptions/hook", http.StatusOK},
		{"/subscriptions?of=overdue", "text/html", "of%20%2F%20and%20%3F%20100%25", http.StatusOK},
		{"/subscriptions?of=other", "text/html", "is not watched", http.StatusNotFound},
		{"/subscriptions/hook?kind=waiting", "text/html", "503 Service Unavailable", http.StatusOK},
		{"/subscriptions/hook?kind=nonsense&before=x", "text/html", "acknowledged", http.StatusOK},
		{"/subscriptions/none", "text/html", "there is no subscription none of yours", http.StatusNotFound},
		{"/subscriptions/none", "", "TD001", http.StatusNotFound},
	} {
		request := get(test.path)
		if test.accept != "" {
			request = withHeader(request, "Accept", test.accept)
		}
		got := f.send(request)
		if got.status != test.status || !strings.Contains(got.body, test.says) {
			t.Errorf("%s: status %d, lacks %q: %.1500s", test.path, got.status, test.says, got.body)
		}
		for _, secret := range []string{"s3cret", "T0/B0", "whsec_"} {
			if strings.Contains(got.body, secret) {
				t.Errorf("%s shows the secret %s", test.path, secret)
			}
		}
	}

	got := f.send(post("/subscriptions/rotate", "subscription", "hook", "grace", "0"))
	if got.status != http.StatusOK || !strings.HasPrefix(got.body, `{"subscription":"hook","secret":"whsec_`) {
		t.Errorf("a rotation: %d %s", got.status, got.body)
	}
	if got := f.send(post("/subscriptions/replay", "subscription", "hook", "replay_for", "1 hour")); strings.TrimSpace(got.body) != `{"subscription":"hook","count":2}` {
		t.Errorf("a replay: %d %s", got.status, got.body)
	}
	if got := f.send(post("/subscriptions/preview", "subscription", "slack", "title", "{{row_count}}", "message", "")); !strings.Contains(got.body, `"title":"2"`) {
		t.Errorf("a preview: %d %s", got.status, got.body)
	}
	for _, test := range []struct {
		request    request
		says, want string
	}{
		{post("/subscriptions", "new_subscription", "mail", "new_matview", "overdue", "recipients", "ann@example.com;\nbob@example.com", "digest", "daily at 8:00", "rules", "rows_added, failed"),
			`{"subscription":"mail","secret":null}`, "mailto:ann@example.com,bob@example.com|daily at 8:00|{failed,rows_added}|f|"},
		{post("/subscriptions/digest", "subscription", "mail", "digest", ""),
			`{"subscription":"mail"}`, "mailto:ann@example.com,bob@example.com||{failed,rows_added}|f|"},
		{post("/subscriptions/audience", "subscription", "mail", "each_row", "true", "to_column", "customer", "allowed_domains", "example.com, example.org"),
			`{"subscription":"mail"}`, "mailto:ann@example.com,bob@example.com|||t|customer"},
		{post("/subscriptions/audience", "subscription", "mail", "rules", "nonsense"), "nonsense", "mailto:ann@example.com,bob@example.com|||t|customer"},
	} {
		got := f.send(test.request)
		is := f.text(`
			select concat_ws('|', webhooks.url, coalesce(webhooks.digest, ''), coalesce(subscriptions.notify_when::text, ''),
			                 subscriptions.each_row, coalesce(subscriptions.to_column, ''))
			  from tinydevcrm.subscriptions
			  join tinydevcrm.webhooks on subscription_id = id
			 where name = 'mail'`)
		if !strings.Contains(got.body, test.says) || is != test.want {
			t.Errorf("%s: %d %s; it is %s, want %s", test.request.path, got.status, got.body, is, test.want)
		}
	}
	page := f.send(get("/subscriptions/mail").fromBrowser()).body
	for _, want := range []string{"a message for each to the address in customer", `value="example.com, example.org"`, "ann@example.com,bob@example.com"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page of an e-mail lacks %q: %s", want, page)
		}
	}

	f.send(get("/subscriptions/new").fromBrowser())
	page = f.follow(post("/subscriptions", "new_subscription", "kept", "url", "http://10.0.0.1/", "headers", "X-Key: s3cret")).body
	if !strings.Contains(page, "10.0.0.1 is private") || !strings.Contains(page, `value="kept"`) || strings.Contains(page, "s3cret") {
		t.Errorf("a refused webhook: %s", page)
	}
}
