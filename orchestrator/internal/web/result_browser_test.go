package web_test

import (
	"testing"

	"github.com/chromedp/chromedp"
)

func TestBrowserSuggestsTheNewTable(t *testing.T) {
	f := newFixture(t)
	f.importFile("old.csv", "n\n1\n")
	b := newBrowser(t)
	b.do("open the page", chromedp.Navigate(f.server.URL+"/"))
	b.fill("#view-name", "mine")
	upload := func(name string) {
		t.Helper()
		b.chooseFile(name, "n\n1\n")
		b.press("#upload .buttons button")
		b.expect("#tables .done", "1 row of "+name+" is in table ")
	}
	check := func(query, name string) {
		t.Helper()
		if got := b.value("#view-query"); got != query {
			t.Errorf("the query is %q, want %q", got, query)
		}
		if got := b.value("#view-name"); got != name {
			t.Errorf("the name is %q, want %q", got, name)
		}
	}
	upload("new.csv")
	check("select *\n  from new", "mine")
	b.fill("#view-query", "select 7 as n")
	upload("newer.csv")
	check("select 7 as n", "mine")
	b.press(createButton)
	b.expect("#schedule .done", "View mine is created.")
	check("select *\n  from newer", "newer_now")

	// Back and reload show no message again, and repeat no action.
	b.do("reload", chromedp.Reload())
	b.do("it is there", chromedp.WaitVisible(chromedp.CSS("#matviews [data-relation=mine]")))
	if count := read(b, "count", chromedp.Evaluate[int](`document.querySelectorAll('.done, .problem').length`)); count != 0 {
		t.Error("a reload says again what was done")
	}
	b.checkErrors()
}

func TestBrowserWhileTheDatabaseIsAway(t *testing.T) {
	f := newFixture(t)
	f.exec("select tinydevcrm.create_matview('v', 'select 1 as n')")
	way := f.overLink()
	b := newBrowser(t)
	b.do("open the page", chromedp.Navigate(f.server.URL+"/events"))
	b.expect("#feed-state.live", "Live")
	way.cut(true)
	f.server.CloseClientConnections()
	b.expect("#away", "The database has not answered since")
	b.expect("#feed-state", "Waiting for the database")
	way.cut(false)
	b.waitFor("it is over", `!document.getElementById('away') && document.getElementById('feed-state').textContent === 'Live'`)
}
