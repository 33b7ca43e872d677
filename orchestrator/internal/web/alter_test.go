package web_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

func TestAlterAQuery(t *testing.T) {
	f := newFixture(t)
	f.exec("create table numbers as select n from generate_series(1, 3) as n")
	f.exec("select tinydevcrm.create_matview('v', 'select n, n * 2 as twice from numbers', key => array['n'])")
	f.exec("create view on_v as select n from v")

	// The form has the present query.
	page := f.send(get("/?matview=v").fromBrowser()).body
	form := formOf(t, page, `action="/matviews/alter#schedule"`)
	if !strings.Contains(form, "FROM numbers") || strings.Contains(page, `id="alter-preview"`) {
		t.Errorf("the form does not show the query: %s", form)
	}

	// A preview shows the rows in the form, with the typed query, and changes nothing.
	got := f.send(post("/matviews/preview", "relation", "v", "query", "select 40 - n as n from numbers").fromBrowser())
	form = formOf(t, got.body, `action="/matviews/alter#schedule"`)
	if got.status != 200 || !strings.Contains(form, "<td>39</td>") || !strings.Contains(form, "select 40 - n as n from numbers") {
		t.Errorf("preview: %d, %s", got.status, form)
	}
	if strings.Contains(sectionOf(t, got.body, "view"), "40 - n") {
		t.Error("the form for a new view has the query too")
	}

	// An error is shown where the form is, with its position, and keeps what was typed.
	got = f.send(post("/matviews/alter", "relation", "v", "query", "select nope from numbers").fromBrowser())
	section := sectionOf(t, got.body, "schedule")
	if got.status != 422 || !strings.Contains(problemOf(t, section), "nope") || !strings.Contains(section, `data-position="8"`) ||
		!strings.Contains(section, "select nope from numbers") {
		t.Errorf("an error: %d, %s", got.status, section)
	}
	if count := f.number("select count(twice) from v"); count != 3 {
		t.Errorf("after the error, the view has %d rows", count)
	}

	// Done, with what could not be kept.
	page = f.follow(post("/matviews/alter", "relation", "v", "query", "select n::bigint % 2 as twice, n from numbers")).body
	if section = sectionOf(t, page, "schedule"); !strings.Contains(section, "View v has its new query. Built again: on_v.") {
		t.Errorf("the page does not say that it is done: %s", section)
	}
	f.exec("drop view on_v")
	page = f.follow(post("/matviews/alter", "relation", "v", "query", "select 1 as one")).body
	if section = sectionOf(t, page, "schedule"); !strings.Contains(section, "<li>key (n) is gone</li>") {
		t.Errorf("the page does not say what is gone: %s", section)
	}

	// A program gets it as JSON.
	var altered struct {
		Relation                string
		Kept, Rebuilt, Warnings []string
	}
	got = f.send(post("/matviews/alter", "relation", "v", "query", "select 1 as one, 2 as two"))
	if err := json.Unmarshal([]byte(got.body), &altered); err != nil || altered.Relation != "v" || altered.Warnings == nil {
		t.Errorf("JSON: %s, %v", got.body, err)
	}
}

func TestAlterAQueryInABrowser(t *testing.T) {
	f := newFixture(t)
	f.exec("create table numbers as select n from generate_series(1, 3) as n")
	f.exec("select tinydevcrm.create_matview('v', 'select n from numbers')")
	b := newBrowser(t)
	b.do("open the page", chromedp.Navigate(f.server.URL+"/?matview=v"))
	b.click(`#schedule details:has(#alter-query) > summary`)
	b.fill("#alter-query", "select n * 10 as ten\n  from numbers")
	b.expect(`#schedule [data-field="alter-query"]`, "select n * 10 as ten")
	b.press(`#schedule form[action^="/matviews/alter"] .second`)
	b.expect("#alter-preview td", "10")
	if kept := b.value("#alter-query"); kept != "select n * 10 as ten\n  from numbers" {
		t.Errorf("the query is %q after the preview", kept)
	}
	b.press(`#schedule form[action^="/matviews/alter"] button:not(.second)`)
	b.expect("#schedule .done", "View v has its new query.")
	if sum := f.number("select sum(ten) from v"); sum != 60 {
		t.Errorf("the sum is %d", sum)
	}
	b.checkErrors()
}
