package web_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// useEvents makes a view with two events, the second of which has an old and a new value, and one that fails.
func (f *fixture) useEvents() (first, second, failed int64) {
	f.t.Helper()
	f.exec(`select tinydevcrm.create_subscription($1)`, f.schema)
	f.exec(`create table stock (id int primary key, n int)`)
	f.exec(`insert into stock values (1, 10)`)
	f.exec(`select tinydevcrm.create_matview('levels', 'select id, n from stock', 'changed', key => array['id'])`)
	f.exec(`select tinydevcrm.create_matview('ratio', 'select 100 / n as share from stock', 'always')`)
	// The first one has nothing to compare with.
	f.refresh("levels")
	f.exec(`update stock set n = 20`)
	first = f.refresh("levels")
	f.exec(`update stock set n = 0`)
	second = f.refresh("levels")
	return first, second, f.refresh("ratio")
}

func TestEventsScreen(t *testing.T) {
	f := newFixture(t)
	b := newBrowser(t)
	b.checkEveryLook("no events", f.server.URL+"/events")
	b.expect("#events .empty", "No events yet.")

	first, second, failed := f.useEvents()
	b.do("open the events", chromedp.Navigate(f.server.URL+"/events"))
	b.expect("#feed-state.live", "Live")
	b.expect(fmt.Sprintf(`#feed li:first-child.failed[data-id="%d"] .error`, failed), "division by zero")
	b.expect(fmt.Sprintf(`#feed [data-id="%d"] .old`, second), "20")
	b.expect(fmt.Sprintf(`#feed [data-id="%d"] .new`, second), "0")
	b.expect(fmt.Sprintf(`#feed [data-id="%d"] .new`, first), "20")

	// It arrives without a reload.
	f.exec(`update stock set n = 30`)
	next := f.refresh("levels")
	b.expect(fmt.Sprintf(`#feed li:first-child[data-id="%d"] .count`, next), "1 row")
	b.waitFor("the news are said", `document.getElementById('feed-news').textContent.includes('levels: 1 row')`)
	b.checkLooks("events")

	b.press(fmt.Sprintf(`#feed [data-id="%d"] .id`, second))
	b.expect("h1", fmt.Sprintf("Event %d", second))
	b.expect("#event .old", "20")
	b.expect("#event tbody .first", "pending")
	b.checkLooks("an event")
	b.press("#event [rel=prev]")
	b.expect("h1", fmt.Sprintf("Event %d", first))
	b.press("#event [rel=next]")
	b.do("back", chromedp.NavigateBack())
	b.expect("h1", fmt.Sprintf("Event %d", first))
	b.press(`main nav a[href="/events"]`)
	b.choose("#feed-outcome", "failed")
	b.press("#events .search button")
	b.do("the others are left out", chromedp.WaitNotPresent(chromedp.CSS(fmt.Sprintf(`#feed [data-id="%d"]`, first))))
	b.expect("#feed li:only-child", "failed")
	b.checkErrors()
}

func TestEventsScreenWithoutJavaScript(t *testing.T) {
	f := newFixture(t)
	b := newBrowser(t)
	b.do("switch JavaScript off", call(emulation.SetScriptExecutionDisabled,
		emulation.SetScriptExecutionDisabledParams{Value: true}))
	_, second, _ := f.useEvents()
	b.do("open the events", chromedp.Navigate(f.server.URL+"/events?of=levels"))
	b.expect(`#feed li:first-child`, "refreshed")
	f.exec(`update stock set n = 30`)
	next := f.refresh("levels")
	b.press("#feed-state a")
	b.expect(fmt.Sprintf(`#feed li:first-child[data-id="%d"]`, next), "1 row")
	b.press(fmt.Sprintf(`#feed [data-id="%d"] .id`, second))
	b.expect("#event .new", "0")
	b.press(`main nav a[href="/events"]`)
	b.expect("h1", "Events")
	b.checkErrors()
}

func TestOneEvent(t *testing.T) {
	f := newFixture(t)
	first, _, _ := f.useEvents()
	path := fmt.Sprintf("/events/%d", first)
	for _, test := range []struct {
		path, says string
		status     int
	}{
		{path, `"outcome":"refreshed"`, http.StatusOK},
		{"/events/9223372036854775807", "there is no event", http.StatusNotFound},
		{"/events/x", "is not the number of an event", http.StatusNotFound},
	} {
		if got := f.send(get(test.path)); got.status != test.status || !strings.Contains(got.body, test.says) {
			t.Errorf("%s: %d %s", test.path, got.status, got.body)
		}
		got := f.send(get(test.path).fromBrowser())
		if got.status != test.status || !strings.Contains(got.body, "<h1>Event ") {
			t.Errorf("%s from a browser: %d %s", test.path, got.status, got.body)
		}
	}

	// A browser that has the page is not sent it again.
	again := get(path).fromBrowser()
	again.header = map[string]string{"If-None-Match": f.send(again).header.Get("ETag")}
	if got := f.send(again); got.status != http.StatusNotModified || got.body != "" {
		t.Errorf("the same page again: %d %s", got.status, got.body)
	}
}

func TestPagesAreCompressed(t *testing.T) {
	f := newFixture(t)
	f.useEvents()
	plain := f.send(get("/events").fromBrowser())
	packed := get("/events").fromBrowser()
	packed.header = map[string]string{"Accept-Encoding": "gzip"}
	got := f.send(packed)
	if got.header.Get("Content-Encoding") != "gzip" || len(got.body) > len(plain.body)/2 {
		t.Errorf("a page of %d bytes is sent as %d, encoded as %q", len(plain.body), len(got.body), got.header.Get("Content-Encoding"))
	}
}

// The feed shows the selected events, finds the events that it missed, and goes back to older ones.
func TestEventsFeed(t *testing.T) {
	f := newFixture(t)
	f.exec(`select tinydevcrm.create_matview(name, 'select 1 as n') from unnest('{loud,quiet}'::text[]) as name`)
	old := f.refresh("quiet")
	for range 30 {
		f.refresh("loud")
	}
	b := newBrowser(t)
	b.do("open the page", chromedp.Navigate(f.server.URL+"/events"))
	b.press("#feed-older")
	b.do("the oldest is there", chromedp.WaitVisible(chromedp.CSS(fmt.Sprintf(`#feed [data-id="%d"]`, old))))

	b.fill("#feed-of", f.schema+".quiet")
	b.press("#events .search button")
	b.expect("#feed-state.live", "Live")
	f.refresh("loud")
	last := f.refresh("quiet")
	b.do("the new one comes", chromedp.WaitVisible(chromedp.CSS(fmt.Sprintf(`#feed [data-id="%d"]`, last))))
	items := read(b, "count the items", chromedp.Evaluate[int](`document.querySelectorAll('#feed li').length`))
	if items != 2 {
		t.Errorf("the feed has %d items, want the two of this view", items)
	}

	// The server goes away, and meanwhile more events occur than a page shows at first.
	f.isAway.Store(true)
	f.server.CloseClientConnections()
	b.waitFor("it is said", `document.getElementById('feed-state').textContent.startsWith('Reconnecting')`)
	for range 70 {
		last = f.refresh("quiet")
	}
	f.isAway.Store(false)
	b.do("the last one comes", chromedp.WaitVisible(chromedp.CSS(fmt.Sprintf(`#feed [data-id="%d"]`, last))))
	// It may come before those that the page has missed.
	b.waitFor("all are there", `document.querySelectorAll('#feed li').length >= 72`)
	items = read(b, "count the items", chromedp.Evaluate[int](`document.querySelectorAll('#feed li').length`))
	if items != 72 {
		t.Errorf("the feed has %d items, want all 72", items)
	}
}

// An event looks the same whether it arrived live or with the page.
func TestLiveEventsLookLikeTheServers(t *testing.T) {
	f := newFixture(t)
	f.importSample()
	b := newBrowser(t)
	b.do("open the page", chromedp.Navigate(f.server.URL+"/events"))
	b.expect("#feed-state.live", "Live")
	f.exec(`insert into sample values (null)`)
	f.exec(`select tinydevcrm.create_matview('odd', $$
	            select n as "AColumnOfNumbers", '<b>' || repeat('é', 300) as "long", 9007199254740993 as big,
	                   '' as nothing, array[1, 2] as list, 1.50 as price, 'y' as "2024", 'x' as "7"
	              from (select min("AColumnOfNumbers") from sample union all select null) as first (n)$$)`)
	item := fmt.Sprintf(`#feed li[data-id="%d"]`, f.refresh("odd"))
	withoutTime := fmt.Sprintf(`Array.from(
		document.querySelectorAll('%s :is(b, .matview, .count, .took, .id, .error, th, td, td i)'),
		node => node.tagName + ':' + node.textContent).join('\n')`, item)
	b.do("wait for the live event", chromedp.WaitVisible(chromedp.CSS(item)))
	live := read(b, "look at it", chromedp.Evaluate[string](withoutTime))
	b.do("reload", chromedp.Navigate(f.server.URL+"/events"), chromedp.WaitVisible(chromedp.CSS(item)))
	rendered := read(b, "look at it again", chromedp.Evaluate[string](withoutTime))
	if live != rendered {
		t.Errorf("live:\n%s\nas the server renders it:\n%s", live, rendered)
	}
	if !strings.Contains(live, "9007199254740993") || !strings.Contains(live, "null") {
		t.Errorf("the event lacks its values: %s", live)
	}
	const columns = "TH:AColumnOfNumbers\nTH:long\nTH:big\nTH:nothing\nTH:list\nTH:price\nTH:2024\nTH:7\n"
	if !strings.Contains(live, columns) {
		t.Errorf("the columns are not in the order of the view: %s", live)
	}

	f.exec(`create table stock as select i as "2", 'item ' || i as name from generate_series(1, 3) as i`)
	f.exec(`select tinydevcrm.create_matview('in_stock', 'select name, "2" from stock', 'changed', key => '{2}')`)
	f.refresh("in_stock")
	f.exec(`update stock set name = case "2" when 1 then 'new name' else name end, "2" = case "2" when 3 then 4 else "2" end`)
	item = fmt.Sprintf(`#feed li[data-id="%d"]`, f.refresh("in_stock"))
	changes := fmt.Sprintf(`Array.from(document.querySelectorAll('%[1]s tr'), line => line.className + ' ' +
		Array.from(line.cells, cell => cell.textContent).join(',')).concat(
		document.querySelector('%[1]s .count').textContent,
		Array.from(document.querySelectorAll('%[1]s tbody tr'), line => getComputedStyle(line.cells[1]).color)).join('\n')`, item)
	b.do("wait for the changed rows", chromedp.WaitVisible(chromedp.CSS(item+" .rows")))
	live = read(b, "look at the changed rows", chromedp.Evaluate[string](changes))
	const lines = " ,name,2\nold old,item 1,1\nnew new,new name,1\nadded added,item 3,4\nremoved removed,item 3,3\n3 rows (+2 −2)\n"
	if !strings.HasPrefix(live, lines) {
		t.Errorf("the changed rows are shown as\n%s", live)
	}
	b.do("reload", chromedp.Navigate(f.server.URL+"/events"), chromedp.WaitVisible(chromedp.CSS(item+" .rows")))
	if rendered := read(b, "look at them again", chromedp.Evaluate[string](changes)); live != rendered {
		t.Errorf("live:\n%s\nas the server renders it:\n%s", live, rendered)
	}

	f.exec(`create materialized view failing as select 1 / count(*) as n from sample`)
	f.exec(`select tinydevcrm.watch_matview('failing')`)
	f.exec(`truncate sample`)
	failed := fmt.Sprintf(`#feed li.failed[data-id="%d"]`, f.refresh("failing"))
	b.expect(failed+" .error", "division by zero")
	b.do("reload", chromedp.Navigate(f.server.URL+"/events"))
	b.expect(failed+" .error", "division by zero")
	b.checkErrors()
}

// Postgres holds JSON that is nested more deeply than Go reads it.
func TestEventsBesideNestedOnes(t *testing.T) {
	f := newFixture(t)
	f.exec("create table documents as select repeat('[', 10500) || repeat(']', 10500) as document")
	f.exec("select tinydevcrm.create_matview('nested', 'select document::json from documents', 'always')")
	f.exec("select tinydevcrm.create_matview('plain', 'select 1 as n', 'always')")
	nested, plain := f.refresh("nested"), f.refresh("plain")
	page := f.send(get("/events").fromBrowser()).body
	for _, id := range []int64{nested, plain} {
		if !strings.Contains(page, fmt.Sprintf(`data-id="%d"`, id)) {
			t.Errorf("the page lacks event %d", id)
		}
	}
	if !strings.Contains(page, "This event cannot be shown") {
		t.Error("the page does not say that it cannot show the nested event")
	}
}

// An event that is no success is not green: neither one that fails, is late or silent, nor that of a drop.
func TestColoursOfEvents(t *testing.T) {
	f := newFixture(t)
	f.useEvents()
	f.exec(`
		insert into tinydevcrm.matview_refresh_events (matview_id, matview, outcome, is_notified, reason, started_at, duration)
		select id, $1, outcome, true, 'a test', now(), '0'
		  from tinydevcrm.matviews, unnest('{late,silent,dropped}'::text[]) as outcome
		 where relation = 'levels'::regclass`, f.schema+".levels")
	b := newBrowser(t)
	b.do("open the events", chromedp.Navigate(f.server.URL+"/events"))
	for outcome, name := range map[string]string{
		"refreshed": "good", "failed": "bad", "late": "bad", "silent": "bad", "dropped": "weak",
	} {
		b.waitFor(outcome+" has its colour", fmt.Sprintf(`(() => {
			const probe = document.body.appendChild(document.createElement('a'));
			probe.style.color = 'var(--%s)';
			const want = getComputedStyle(probe).color;
			probe.remove();
			return getComputedStyle(document.querySelector('#feed .%s')).borderLeftColor === want;
		})()`, name, outcome))
	}
	dropped := f.number(`select max(id) from tinydevcrm.matview_refresh_events where outcome = 'dropped'`)
	if page := f.send(get(fmt.Sprintf("/events/%d", dropped)).fromBrowser()).body; !strings.Contains(page, `<dd class="">dropped</dd>`) {
		t.Errorf("the page of a drop: %s", page)
	}
	b.checkErrors()
}
