package web_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

const (
	createButton   = "#view form > .buttons:last-child button"
	previewButton  = `#view [formaction^="/matviews/preview"]`
	scheduleButton = "#schedule .chosen .buttons button"
	watchButton    = `#schedule form[action^="/matviews/watch"] button`
	threeOrders    = "id,total,zip\n1,10.50,0107\n2,99.90,1234\n3,7.25,5678\n"
)

// walk goes through the main workflow with the sample, from the file chooser to a schedule. look is how to get
// a preview: with JavaScript it leads to no other page, and appears by itself.
func (b *browser) walk(f *fixture, look func()) {
	b.t.Helper()
	b.do("open the page", chromedp.Navigate(f.server.URL+"/"))
	b.expect("#tables .empty", "No tables yet")
	b.expect("#schedule .empty", "No views yet")
	b.expect("#notify .empty", "No subscriptions yet")
	b.expect("#events .empty", "No events yet")
	b.takeScreenshots("empty")

	b.fill("#upload-table", "kept")
	b.chooseFile("sample.csv", "")
	look()
	b.expect("#upload-plan p", "These types fit the whole file.")
	if found := b.value("#upload-plan select"); found != "" {
		b.t.Errorf("the type is %q before one is chosen, want as found", found)
	}
	b.expect("#upload-plan td", "integer")
	b.click("#upload-plan summary")
	b.expect("#upload-plan pre", `.kept ("AColumnOfNumbers" integer);`)
	if kept := b.value("#upload-table"); kept != "kept" {
		b.t.Errorf("the table is %q after the preview, want it as it was written", kept)
	}
	b.takeScreenshots("preview")

	b.do("open the page again", chromedp.Navigate(f.server.URL+"/"))
	b.chooseFile("sample.csv", "")
	b.press("#upload .buttons button")
	b.expect("#tables .done", "10 rows of sample.csv are in table sample.")
	b.expect("#preview th", "AColumnOfNumbers")
	b.expect("#preview th small", "integer")
	b.expect("#preview tr:nth-child(10) td", "9")

	b.press(createButton)
	b.expect("#schedule .done", "View sample_now is created.")
	b.expect("#matviews [data-relation=sample_now] td", "not scheduled")

	b.fill("#schedule-schedule", "1 hour")
	b.press(scheduleButton)
	b.expect("#schedule .done", "View sample_now has been refreshed")
	b.expect("#matviews [data-relation=sample_now] td", "ok")
	b.expect("#feed li .matview", f.schema+".sample_now")
	b.expect("#feed li .count", "1 row")
}

func TestBrowser(t *testing.T) {
	f := newFixture(t)
	b := newBrowser(t)
	b.walk(f, func() {})

	b.expect("#feed-state.live", "Live")
	live := f.refresh("sample_now")
	item := fmt.Sprintf(`#feed li:first-child[data-id="%d"]`, live)
	b.expect(item+" .matview", f.schema+".sample_now")
	b.expect(item+" td", "")
	b.waitFor("it is said", `document.getElementById('feed-news').textContent.includes('sample_now: 1 row')`)
	b.waitFor("the chart has it",
		`document.querySelector('#matviews [data-relation=sample_now] .counts').getAttribute('d').split('M').length > 2`)
	items := read(b, "count the items", chromedp.Evaluate[int](`document.querySelectorAll('#feed li').length`))
	if items != 2 {
		t.Errorf("the feed has %d items, want each event once", items)
	}
	b.takeScreenshots("page")

	b.click("#schedule .danger summary")
	b.press("#schedule .drop")
	b.expect("#schedule .done", "is dropped.")
	b.checkErrors()
}

// Types that the user has chosen, lines that do not fit, and a file that is dropped on the page.
func TestBrowserUploads(t *testing.T) {
	f := newFixture(t)
	b := newBrowser(t)
	b.do("open the page", chromedp.Navigate(f.server.URL+"/"))

	b.chooseFile("orders.csv", threeOrders)
	b.do("see the columns", chromedp.WaitVisible(chromedp.CSS("#upload-plan tr:nth-child(3)")))
	b.choose("#upload-plan tr:nth-child(1) select", "id=text")
	b.press("#upload .buttons button")
	b.expect("#preview th:nth-child(1) small", "text")
	b.expect("#preview th:nth-child(2) small", "numeric")
	b.expect("#preview th:nth-child(3) small", "text")

	b.chooseFile("orders.csv", threeOrders)
	b.expect("#upload .problem", "is there already")
	b.click("#upload .buttons button")
	b.expect("#upload .problem", "is there already")
	b.do("the button works again", chromedp.WaitEnabled(chromedp.CSS("#upload .buttons button")))
	b.takeScreenshots("upload-error")

	const ragged = "a,b\n1,2\n3\n4,5,6\n"
	b.chooseFile("ragged.csv", ragged)
	b.click("#upload .buttons button")
	b.expect("#upload .problem .lines", "1 field instead of 2")
	b.expect("#upload .problem .lines tbody tr:nth-child(2)", "4,5,6")
	b.click("#upload .options summary")
	b.choose("#upload-ragged", "pad")
	b.press("#upload .buttons button")
	b.expect("#tables .done", "3 rows of ragged.csv")
	b.expect("#tables .lines tbody tr:nth-child(1)", "1 field instead of 2")

	b.chooseFile("totals.csv", "a,b\n1,2\n3,4\nTotal\n")
	b.do("reset the list", chromedp.SetValue(chromedp.CSS("#upload-ragged"), ""))
	b.click("#upload .buttons button")
	b.expect("#upload .problem .remedies", "Lines to skip at the end: 1")
	b.press("#upload .problem .remedies button")
	b.expect("#tables .done", "2 rows of totals.csv")

	b.do("drop a file", chromedp.Evaluate[chromedp.Void](`(() => {
		const files = new DataTransfer();
		files.items.add(new File(['n\n1\n2\n'], 'dropped.csv', { type: 'text/csv' }));
		for (const kind of ['dragenter', 'dragover', 'drop']) {
			document.body.dispatchEvent(new DragEvent(kind,
				{ dataTransfer: files, bubbles: true, cancelable: true }));
		}
	})()`))
	b.expect("#upload-plan th[scope=row]", "n")
	b.press("#upload .buttons button")
	b.expect("#tables .done", "2 rows of dropped.csv")
	b.checkErrors()
}

func TestBrowserAsksAndSchedules(t *testing.T) {
	f := newFixture(t)
	f.importSample()
	b := newBrowser(t)
	b.do("open the page", chromedp.Navigate(f.server.URL+"/"))

	b.fill("#view-query", "select *\n  form sample")
	b.click(previewButton)
	b.expect("#view .problem pre", "LINE 2:   form sample")
	selected := `(query => query.value.slice(query.selectionStart, query.selectionEnd))(document.getElementById('view-query'))`
	checkSelected := func() {
		t.Helper()
		if word := read(b, "look what is selected", chromedp.Evaluate[string](selected)); word != "form" {
			t.Errorf("%q is selected, want the word where the database stopped", word)
		}
	}
	checkSelected()
	b.takeScreenshots("query-error")
	b.press(createButton)
	b.expect("#view .problem pre", "LINE 2:   form sample")
	checkSelected()
	b.fill("#view-query", "select null as nothing, * from ")
	b.click("#view .hand summary")
	b.click("#view .hand .name")
	if query := b.value("#view-query"); !strings.HasSuffix(query, "from sample") {
		t.Errorf("the query is %q after a click on the table", query)
	}
	b.click(previewButton)
	b.expect("#view-preview th:nth-child(2)", "AColumnOfNumbers integer")
	b.expect("#view-preview td", "null")
	b.do("come back to the page", chromedp.Navigate(f.server.URL+"/?table="+f.schema+".sample"))
	if query := b.value("#view-query"); !strings.HasSuffix(query, "from sample") {
		t.Errorf("the query is %q after another table was looked at", query)
	}
	b.fill("#view-name", "it's")
	b.click("#view input[value=rows_added]")
	b.click("#view .sql summary")
	b.expect("#view .sql pre", `name        => 'it''s'`)
	b.expect("#view .sql pre", `notify_when => 'rows_added'`)
	b.press(createButton)
	b.expect("#chosen-title", `"it's"`)
	b.expect(`#matviews tr[data-relation='"it\'s"'] td:nth-child(5)`, "rows_added")

	b.fill("#schedule-schedule", "0 7 * * 1")
	b.waitFor("it is said in words",
		`document.getElementById('schedule-when').textContent.startsWith('every Monday at 07:00 (GMT); next ')`)
	b.fill("#schedule-schedule", "sometimes")
	b.waitFor("it is refused", `document.getElementById('schedule-when').textContent.includes('is not a schedule')`)
	b.fill("#schedule-schedule", "1 hour")
	b.press(scheduleButton)
	b.press(`#schedule [formaction^="/matviews/pause"]`)
	b.expect("#schedule .done", "is paused")
	b.press(`#schedule [formaction^="/matviews/resume"]`)
	b.expect("#schedule .done", "is no longer paused")

	b.click("#schedule .chosen .options summary")
	b.click("#schedule input[value=always]")
	b.fill("#watch-ignored", "nothing")
	b.fill("#watch-interval", "1 hour")
	b.press(watchButton)
	b.expect("#schedule .done", "by its new rule")
	if count := f.number(`select count(*) from tinydevcrm.matviews
		where notify_when = 'always' and ignored_columns = '{nothing}' and notify_interval = '1 hour'`); count != 1 {
		t.Error("the rule has not changed as it was filled in")
	}
	b.checkErrors()
}
