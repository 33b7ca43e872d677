package web_test

import (
	"net/http"
	"strings"
	"testing"
)

// The page lists dropped views, and makes one again.
func TestPageRestoresADroppedView(t *testing.T) {
	f := newFixture(t)
	f.exec("select tinydevcrm.create_matview('v', 'select 1 as n', 'rows_added')")
	f.exec("drop materialized view v")
	page := f.send(get("/views").fromBrowser()).body
	if !strings.Contains(page, `name="name" value="`+f.schema+`.v"`) {
		t.Errorf("the page does not list it: %s", page)
	}
	if page := f.follow(post("/matviews/restore", "name", f.schema+".v")); page.status != http.StatusOK ||
		!strings.Contains(page.body, "The view is made again") || !strings.Contains(page.body, "<h1>v</h1>") {
		t.Errorf("status %d: %s", page.status, page.body)
	}
	if rule := f.text("select notify_when from tinydevcrm.matview_status where relation = 'v'::regclass"); rule != "rows_added" {
		t.Errorf("its rule is %s", rule)
	}
	decode[struct{}](t, f.send(post("/matviews/restore", "name", "v")), http.StatusNotFound)
}

// The page shows what is late and what reads a renamed table, and takes the word that the table is right.
func TestPageShowsLateAndRenamed(t *testing.T) {
	f := newFixture(t)
	f.exec("create table orders as select 1 as n")
	f.exec("select tinydevcrm.create_matview('v', 'select n from orders')")
	f.exec("select tinydevcrm.schedule_matview('v', '0 0 1 1 *')")
	f.exec("alter table orders rename to orders_2025")
	f.exec("create table orders as select 2 as n")
	page := f.send(get("/views/v").fromBrowser()).body
	for _, want := range []string{`<b class="bad">reads renamed table</b>: reads `, "/matviews/accept"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q: %s", want, page)
		}
	}
	decode[struct{}](t, f.send(post("/matviews/accept", "relation", "v")), http.StatusOK)
	f.exec(`
		update tinydevcrm.matviews
		   set schedule_began_at = now() - interval '3 years', last_refreshed_at = now() - interval '2 years'
		 where relation = 'v'::regclass`)
	if page := f.send(get("/views/v").fromBrowser()).body; !strings.Contains(page, `<b class="bad">late</b>: `) ||
		strings.Contains(page, `"/matviews/accept"`) {
		t.Errorf("a late view: %s", page)
	}
}
