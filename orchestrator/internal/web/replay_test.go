package web_test

import (
	"net/url"
	"strings"
	"testing"
)

// The page says which rule a new view got and why, what is tracked, and when a rule would have notified.
func TestPageSuggestsAndReplaysRules(t *testing.T) {
	f := newFixture(t)
	f.exec("create table orders as select 1 as n")

	page := f.follow(post("/matviews", "name", "tracked", "query", "select n from orders", "notify_when", ""))
	if want := "The view is created. Its rule is changed, because its tables are tracked: "; !strings.Contains(page.body, want) {
		t.Errorf("the page does not say %q: %s", want, page.body)
	}
	if want := "It is refreshed only when its tables change: they are tracked."; !strings.Contains(page.body, want) {
		t.Errorf("the page does not say %q: %s", want, page.body)
	}
	page = f.follow(post("/matviews", "name", "given", "query", "select n from orders where now() is not null", "notify_when", "not_empty"))
	if strings.Contains(page.body, "Its rule is") {
		t.Error("a rule that was given is explained")
	}
	if want := "It is refreshed at each round of its schedule, because it calls now(), "; !strings.Contains(page.body, want) {
		t.Errorf("the page does not say %q: %s", want, page.body)
	}

	for _, change := range []string{"insert into orders values (2)", "update orders set n = n", "update orders set n = 3"} {
		f.exec(change)
		f.exec("select tinydevcrm.refresh_matview('given')")
	}
	replay := func(fields ...string) string {
		values := url.Values{"replay": {"30 days"}, "relation": {"given"}, "ignored_columns": {""}}
		for i := 0; i < len(fields); i += 2 {
			values.Set(fields[i], fields[i+1])
		}
		return f.send(get("/views/given?" + values.Encode()).fromBrowser()).body
	}
	body := replay("notify_when", "always", "notify_interval", "", "notify_after", "2")
	for _, want := range []string{
		"this rule would have notified 2 times.</p>", ": at each refresh, 2 rows", `value="always" checked`, `name="notify_after" type="number" min="1" max="1000" value="2"`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("the page does not say %q: %s", want, body)
		}
	}
	body = replay("notify_when", "changed", "notify_interval", "", "notify_after", "")
	if want := "this rule would have notified 0 times. Of 2 other refreshes that is not known"; !strings.Contains(body, want) {
		t.Errorf("the page does not say %q: %s", want, body)
	}
	if body := replay("notify_when", "sometimes", "notify_interval", "", "notify_after", ""); !strings.Contains(problemOf(t, body), "there is no rule") {
		t.Errorf("an unknown rule: %s", body)
	}

	// A deadline that has passed.
	f.send(post("/matviews/watch", "relation", "tracked", "notify_deadline", "1 day"))
	f.exec("update tinydevcrm.matviews set silent_noted_at = now() where relation = 'tracked'::regclass")
	body = f.send(get("/views/tracked").fromBrowser()).body
	for _, want := range []string{`<b class="bad">silent</b>`, `value="1 day"`} {
		if !strings.Contains(body, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
}
