package web_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestScreenshots shows each screen after some use. scripts/screenshots keeps the pictures, so only the time of day in
// them is left to chance.
func TestScreenshots(t *testing.T) {
	f := newFixtureIn(t, "shop")
	b := newBrowser(t)
	b.do("open the home", chromedp.Navigate(f.server.URL+"/"))
	b.takeScreenshots("new")
	f.useForAWhile()
	for name, path := range f.shopPaths() {
		t.Run(name, func(t *testing.T) {
			b := newBrowser(t)
			b.do("open "+path, chromedp.Navigate(f.server.URL+path))
			b.takeScreenshots(name)
			b.checkErrors()
		})
	}
}

// orders writes the orders of these numbers as a CSV.
func orders(first, last int) string {
	customers := []string{"Ada Byron", "Grace Murray", "Alan Mathison", "Edsger Wybe", "Barbara Jane", "Donald Ervin"}
	countries := []string{"GB", "US", "GB", "NL", "US", "NO"}
	states := []string{"paid", "paid", "shipped", "unpaid", "paid"}

	var csv strings.Builder
	csv.WriteString("id,ordered_at,customer,country,quantity,total,state\n")
	for id := first; id <= last; id++ {
		fmt.Fprintf(&csv, "%d,2026-03-%02dT%02d:%02d:00Z,%s,%s,%d,%d.%02d,%s\n", id,
			1+id/12%28, 8+id%12, id*7%60, customers[id*5%6], countries[id*5%6], 1+id%4, id*379%1200+20, id*45%100, states[id*3%5])
	}
	return csv.String()
}

// useForAWhile fills the database: two tables, one of which a source fills, views of them, one that fails, one that is
// not scheduled, the events of each refresh, and a webhook that has accepted all of them.
func (f *fixture) useForAWhile() {
	f.t.Helper()
	f.importSample()
	f.importFile("orders.csv", orders(1, 180))

	f.exec(`select tinydevcrm.create_source('orders', 'https://shop.example.com/export.csv', mode => 'upsert', key => '{id}', schedule => 'daily at 6:00')`)
	f.exec(`update tinydevcrm.source_runs
	           set status = 'imported', attempts = 1, filename = 'orders.csv', byte_count = 9876, row_count = 180,
	               import_number = (select id from tinydevcrm.imports where table_name = 'orders')`)
	f.exec(`select tinydevcrm.create_webhook('alerts', 'https://hooks.example.com/orders')`)
	for _, view := range []struct{ name, query, rule, schedule string }{
		{"big_orders", `select id, customer, total from orders where total > 1000`, "rows_added", "10 minutes"},
		{"unpaid_by_customer", `select customer, count(*) as orders, sum(total) as total
			from orders where state = 'unpaid' group by customer`, "changed", "0 7 * * 1-5"},
		{"revenue_by_country", `select country, sum(total) as revenue from orders group by country`, "never", "1 hour"},
		{"price_per_item", `select id, total / quantity as price from orders`, "never", "30 minutes"},
		{"orders_without_customer", `select * from orders where customer is null`, "not_empty", ""},
		{"sample_now", `select * from sample
			where "AColumnOfNumbers" = floor(extract(second from now()))::integer % 10`, "always", "5 seconds"},
	} {
		f.exec(`select tinydevcrm.create_matview($1, $2, $3)`, view.name, view.query, view.rule)
		if view.schedule != "" {
			f.exec(`select tinydevcrm._assign_schedule($1::text::regclass, $2, null, null)`, view.name, view.schedule)
		}
	}
	// Only this test refreshes.
	f.exec(`update cron.job set active = false where jobid in (select job_id from tinydevcrm.schedules)`)

	for round := range 24 {
		f.exec(`insert into orders
			select 180 + $1::integer * 4 + n, timestamptz '2026-03-16 08:00Z' + $1::integer * interval '40 minutes', 'Niklaus Emil', 'CH',
			       case $1::integer when 22 then 0 else n end, 400 * n + 20 * $1::integer, case $1::integer % 5 when 3 then 'unpaid' else 'paid' end
			  from generate_series(1, 1 + $1::integer * 7 % 4) as n`, round)
		f.exec(`select tinydevcrm.refresh_matview(relation) from tinydevcrm.matviews order by id`)
	}

	// As if the clock and the machine were always the same.
	f.exec(`update tinydevcrm.deliveries set attempts = 1, state = 'acknowledged'`)
	f.exec(`update tinydevcrm.matview_refresh_events as events
	           set duration = (3 + events.id * 7 % 11) * interval '1 ms',
	               started_at = now() - (newest.id - events.id) * interval '5 seconds',
	               rows = case when matview = 'shop.sample_now' and outcome = 'refreshed' then
	                   jsonb_build_array(jsonb_build_object('AColumnOfNumbers', events.id * 7 % 10))
	               else rows end
	          from (select max(id) as id from tinydevcrm.matview_refresh_events) as newest`)
	f.exec(`update tinydevcrm.imports
	           set started_at = now() - interval '20 minutes',
	               finished_at = now() - interval '20 minutes' + interval '31 ms'`)
	f.exec(`update tinydevcrm.matviews
	           set last_scheduled_at = now(),
	               last_refreshed_at = (select max(started_at) from tinydevcrm.matview_refresh_events
	                                     where matview_id = matviews.id),
	               failing_since = (select min(started_at) from tinydevcrm.matview_refresh_events
	                                 where matview_id = matviews.id and outcome = 'failed')`)
}
