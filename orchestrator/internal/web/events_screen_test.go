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
	f.exec(`create table stock (id int primary key, n int)`)
	f.exec(`insert into stock values (1, 10)`)
	f.exec(`select tinydevcrm.create_matview('levels', 'select id, n from stock', 'changed', key => array['id'])`)
	f.exec(`select tinydevcrm.create_matview('ratio', 'select 100 / n as share from stock', 'always')`)
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

	// It arrives without a reload.
	f.exec(`update stock set n = 30`)
	next := f.refresh("levels")
	b.expect(fmt.Sprintf(`#feed li:first-child[data-id="%d"] .count`, next), "1 row")
	b.waitFor("the news are said", `document.getElementById('feed-news').textContent.includes('levels: 1 row')`)
	b.checkLooks("events")

	b.press(fmt.Sprintf(`#feed [data-id="%d"] .id`, second))
	b.expect("h1", fmt.Sprintf("Event %d", second))
	b.expect("#event .old", "20")
	b.checkLooks("an event")
	b.do("back", chromedp.NavigateBack())
	b.expect("h1", "Events")
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
