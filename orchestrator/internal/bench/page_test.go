//go:build bench

package bench

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

// TestPage is scripts/bench page [EVENTS [RUNS]]: each screen with 500 tables, 1000 views and EVENTS events: the time to
// its last byte, what a browser loads for it, how much its layout shifts, and what axe-core finds on it.
func TestPage(t *testing.T) {
	events, runs := sizeOf(t, 1_000_000), runsOf(t)
	b := newBench(t)
	b.fill(500, 1000, events)
	address := b.serve()
	// Each has a connection of its own, as the first view of a page has.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	tab := newTab(t)

	axe, err := os.ReadFile("../../../.run/axe.min.js")
	if err != nil {
		t.Fatalf("read axe-core (scripts/setup gets it): %v", err)
	}
	fmt.Printf("%-34s %10s %10s %10s %10s %5s\n", "screen", "last byte", "loaded", "bytes", "shift", "axe")
	for _, path := range []string{
		"/", "/?search=_77", "/upload", "/tables", "/tables/public.table_77", "/tables/public.table_77/columns",
		"/views", "/views?search=_77", "/views/new", "/views/public.view_77", "/views/public.view_77/edit",
		"/subscriptions", "/subscriptions/bench", "/events", "/events?of=public.view_77&outcome=refreshed", fmt.Sprintf("/events/%d", events/2),
	} {
		var answered, loaded, sizes, shifts []float64
		for range runs {
			answered = append(answered, timeAnswer(t, client, address+path))
			if err := chromedp.Do(tab, chromedp.Navigate(address+path), chromedp.Poll[chromedp.Void](
				`performance.getEntriesByType('navigation')[0].loadEventEnd > 0`)); err != nil {
				t.Fatalf("open %s: %v", path, err)
			}
			loaded = append(loaded, evaluate(t, tab, `performance.getEntriesByType('navigation')[0].loadEventEnd`))
			sizes = append(sizes, evaluate(t, tab,
				`performance.getEntries().reduce((sum, entry) => sum + (entry.transferSize || 0), 0)`))
			shifts = append(shifts, evaluate(t, tab, layoutShift))
		}
		if err := chromedp.Do(tab, chromedp.Evaluate[chromedp.Void](string(axe))); err != nil {
			t.Fatalf("load axe-core: %v", err)
		}
		fmt.Printf("%-34s %7.0f ms %7.0f ms %7.1f kB %10.3f %5.0f\n",
			path, median(answered), median(loaded), median(sizes)/1000, median(shifts), evaluate(t, tab, violations))
	}
	fmt.Println("wanted: under 150 ms to the last byte, under 30 kB for /, under 100 kB for each, no shift over 0.02, nothing found")
}

// layoutShift is how much of the page has moved by itself so far, as Chromium counts it.
const layoutShift = `new Promise(done => {
	let sum = 0;
	new PerformanceObserver(list => list.getEntries().forEach(entry => { sum += entry.hadRecentInput ? 0 : entry.value; }))
		.observe({ type: 'layout-shift', buffered: true });
	setTimeout(() => done(sum), 300);
})`

// violations is how many rules of axe-core the page breaks, with the rules of the tests of its accessibility.
const violations = `axe.run(document, {
	resultTypes: ['violations'],
	runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'best-practice'],
}).then(found => found.violations.length)`

// fill creates tables, views and events. Half of the views are refreshed by seconds, half by cron expressions.
// One view in a hundred fails. A subscription has all events, and every hundredth is still pending.
func (b *bench) fill(tables, views, events int) {
	b.t.Helper()
	say("Making %d tables and %d views", tables, views)
	b.query(fmt.Sprintf(`
		do $$
		begin
		    for i in 1 .. %d loop
		        create temporary table staging (id text, name text, amount text);
		        insert into staging
		        select n, 'name ' || n, n * 1.5
		          from generate_series(1, 10) as n;
		        perform tinydevcrm.import_staging('staging', 'table_' || i);
		        drop table if exists staging;
		    end loop;
		end $$`, tables))
	b.query(fmt.Sprintf(`
		select tinydevcrm.create_matview('view_' || i, format('select * from table_%%s where id > 5', i %% %d + 1))
		  from generate_series(1, %d) as i`, tables, views))
	b.query(`
		select count(tinydevcrm._assign_schedule(
		           relation,
		           (array[
		               '5 seconds', '*/10 * * * *', '10 seconds', '0 7 * * 1',
		               '30 seconds', '30 4 1 * *', '45 seconds', id % 60 || ' 3 * * mon-fri'
		           ])[id % 8 + 1], null, null))
		  from tinydevcrm.matviews`)
	b.query("select tinydevcrm.create_subscription('bench')")
	// The schedules are stopped, so that only the page is measured.
	b.query("update cron.job set active = false")

	say("Writing %d events", events)
	// Triggers would take minutes to do what the second insert does.
	b.query(fmt.Sprintf(`
		set session_replication_role = replica;
		insert into tinydevcrm.matview_refresh_events
		    (owner, matview_id, matview, outcome, is_notified, suppressed_by, method, row_count, rows,
		     error_code, error_message, started_at, duration)
		select owner, id, 'public.' || relation,
		       case when is_failure then 'failed' else 'refreshed' end, (i + id) %% 2 = 0 or is_failure,
		       case when (i + id) %% 2 <> 0 and not is_failure then 'rule' end, 'plain',
		       case when not is_failure then 5 end,
		       case when not is_failure and (i + id) %% 2 = 0 then '[{"id": 6, "name": "name 6", "amount": 9.0}]'::jsonb end,
		       case when is_failure then '22012' end, case when is_failure then 'division by zero' end,
		       now() - i * interval '30 seconds', i %% 100 * interval '1 ms'
		  from generate_series(%d - 1, 0, -1) as i
		 cross join tinydevcrm.matviews
		 cross join lateral (select i = 0 and id %% 100 = 0 as is_failure) as judged
		 order by i desc, id;
		insert into tinydevcrm.deliveries (owner, subscription_id, event_id, matview_id, attempts, state, acknowledged_at)
		select subscriptions.owner, subscriptions.id, events.id, events.matview_id, 1,
		       case when events.id %% 100 <> 0 then 'acknowledged' else 'pending' end,
		       case when events.id %% 100 <> 0 then now() end
		  from tinydevcrm.matview_refresh_events as events
		 cross join tinydevcrm.subscriptions
		 where events.is_notified;
		update tinydevcrm.matviews
		   set last_outcome = case when id %% 100 = 0 then 'failed' else 'refreshed' end,
		       failing_since = case when id %% 100 = 0 then now() end,
		       last_row_count = 5, last_refreshed_at = now(), last_scheduled_at = now()`, events/views))
	b.query("vacuum analyze")
}

// timeAnswer is how many milliseconds it takes to receive the whole page.
func timeAnswer(t *testing.T, client *http.Client, address string) float64 {
	t.Helper()
	began := time.Now()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", "text/html")
	answer, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", address, answer.Status, err)
	}
	return time.Since(began).Seconds() * 1000
}

// newTab opens a tab of a Chromium of its own, which caches nothing between pages.
func newTab(t *testing.T) context.Context {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.NoSandbox, // it may run as root, and loads nothing but our page
		chromedp.DisableGPU,
		chromedp.NoFirstRun,
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.UserDataDir(t.TempDir()),
		chromedp.WindowSize(1280, 900),
	)
	// This is not the test's own context, which ends before the browser can be closed properly.
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	keepNothing := chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, network.SetCacheDisabled, network.SetCacheDisabledParams{CacheDisabled: true})
		return err
	})
	if err := chromedp.Do(ctx, keepNothing); err != nil {
		t.Fatalf("start Chromium (scripts/setup installs it): %v", err)
	}
	t.Cleanup(func() { _ = chromedp.Cancel(ctx) })
	return ctx
}

func evaluate(t *testing.T, tab context.Context, expression string) float64 {
	t.Helper()
	value, err := chromedp.Run(tab, chromedp.Evaluate[float64](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return value
}
