package web_test

import (
	"testing"

	"github.com/chromedp/chromedp"
)

// During an upload that never ends, the message about the last one is removed. When the user leaves the page
// and returns, it says that the upload was interrupted.
func TestBrowserLeavesAnUpload(t *testing.T) {
	f := newFixture(t)
	f.importSample()
	b := newBrowser(t)
	b.do("open the page", chromedp.Navigate(f.server.URL+"/"))
	b.chooseFile("sample.csv", "")
	b.click("#upload .buttons button")
	b.expect("#upload .problem", "is there already")
	b.do("the button works again", chromedp.WaitEnabled(chromedp.CSS("#upload .buttons button")))

	// A request that is never answered, like one for a file that takes long.
	b.do("have it take its time", chromedp.Evaluate[chromedp.Void](`XMLHttpRequest.prototype.send = function () { window.held = this; }`))
	b.click("#upload .buttons button")
	b.do("it runs", chromedp.WaitVisible(chromedp.CSS("#upload .stop")))
	if count := read(b, "count the errors", chromedp.Evaluate[int](`document.querySelectorAll('#upload .problem').length`)); count != 0 {
		t.Error("the error of the last upload is beside the one that runs")
	}
	isHeld := read(b, "look whether leaving is asked for", chromedp.Evaluate[bool](
		`!window.dispatchEvent(new Event('beforeunload', { cancelable: true }))`))
	if !isHeld {
		t.Error("nothing warns who leaves the page while an upload runs")
	}
	b.do("leave the page", chromedp.Evaluate[chromedp.Void](`window.dispatchEvent(new Event('pagehide'))`))
	// The browser then ends the request. Without this it would ask the user first.
	b.do("end the request", chromedp.Evaluate[chromedp.Void](`window.held.onabort()`))
	b.do("come back", chromedp.Navigate(f.server.URL+"/?again=1"))
	b.expect("#upload .problem", "you left the page during the upload of sample.csv")
	b.expect("#upload .problem", "Nothing was imported.")
	b.do("and once more", chromedp.Navigate(f.server.URL+"/"), chromedp.WaitVisible(chromedp.CSS("#upload-file")))
	if count := read(b, "count the errors", chromedp.Evaluate[int](`document.querySelectorAll('#upload .problem').length`)); count != 0 {
		t.Error("it is said again")
	}
}

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
