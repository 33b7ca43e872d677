package web_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

func TestAlterAQuery(t *testing.T) {
	f := newFixture(t)
	f.exec("create table numbers as select n from generate_series(1, 3) as n")
	f.exec("select tinydevcrm.create_matview('v', 'select n, n * 2 as twice from numbers', key => array['n'])")
	f.exec("create view on_v as select n from v")
	path := "/views/" + f.schema + ".v/edit"
	page := f.send(get(path).fromBrowser()).body
	if !strings.Contains(page, "FROM numbers") || strings.Contains(page, `id="result"`) {
		t.Errorf("the form does not show the query: %s", page)
	}

	// A preview shows the rows below the typed query, says which columns change, and changes nothing.
	got := f.follow(post("/matviews/preview", "relation", f.schema+".v", "query", "select 40 - n as n, 'x' as other from numbers"))
	for _, want := range []string{`<td class="number">39</td>`, "select 40 - n as n, &#39;x&#39; as other from numbers", "other is new (text); twice goes."} {
		if got.status != http.StatusOK || !strings.Contains(got.body, want) {
			t.Errorf("the preview lacks %s: %d %s", want, got.status, got.body)
		}
	}
	if page := f.send(get("/views/new").fromBrowser()).body; strings.Contains(page, "40 - n") {
		t.Error("the form for a new view has the query too")
	}

	// An error is shown where the form is, with its position, and keeps what was typed.
	got = f.follow(post("/matviews/alter", "relation", f.schema+".v", "query", "select nope from numbers"))
	if !strings.Contains(problemOf(t, got.body), "nope") || !strings.Contains(got.body, `data-position="8"`) ||
		!strings.Contains(got.body, "select nope from numbers") {
		t.Errorf("an error: %s", got.body)
	}
	if count := f.number("select count(twice) from v"); count != 3 {
		t.Errorf("after the error, the view has %d rows", count)
	}

	// Done, with what could not be kept.
	page = f.follow(post("/matviews/alter", "relation", f.schema+".v", "query", "select n::bigint % 2 as twice, n from numbers")).body
	if !strings.Contains(page, "The view has its new query. Built again: on_v.") {
		t.Errorf("the page does not say that it is done: %s", page)
	}
	f.exec("drop view on_v")
	page = f.follow(post("/matviews/alter", "relation", f.schema+".v", "query", "select 1 as one")).body
	if !strings.Contains(page, "<li>key (n) is gone</li>") {
		t.Errorf("the page does not say what is gone: %s", page)
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
