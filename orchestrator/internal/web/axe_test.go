package web_test

import (
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// runAxe returns what https://github.com/dequelabs/axe-core finds on the page.
const runAxe = `axe.run(document, {
	resultTypes: ['violations'],
	runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'best-practice'],
}).then(found => found.violations.map(violation => ({
	rule: violation.id,
	help: violation.help + ': ' + violation.helpUrl,
	targets: violation.nodes.map(node => node.target.join(' ') + ' ' + node.any.map(check => check.message).join('; ')),
})))`

// checkAccessibility fails for what keeps people from using the page as it is shown now.
func (b *browser) checkAccessibility(name string) {
	b.t.Helper()
	axe, err := os.ReadFile("../../../.run/axe.min.js")
	if err != nil {
		b.t.Fatalf("read axe-core (scripts/setup gets it): %v", err)
	}
	// Not by a script element, which the page's policy forbids.
	b.do("load axe-core", chromedp.Evaluate[chromedp.Void](string(axe)))

	type violation struct {
		Rule, Help string
		Targets    []string
	}
	found := read(b, "run axe-core", chromedp.Evaluate[[]violation](runAxe, chromedp.EvalAwaitPromise))
	for _, violation := range found {
		b.t.Errorf("%s: %s: %s\n\t%s", name, violation.Rule, violation.Help,
			strings.Join(violation.Targets, "\n\t"))
	}
}

// checkEveryLook opens a page and all its folded parts, on wide and narrow screens, in both colour schemes.
func (b *browser) checkEveryLook(name, address string) {
	b.t.Helper()
	b.do("open the page", chromedp.Navigate(address))
	b.checkLooks(name)
}

// checkLooks does the same with what the page shows now, which may have no URL.
func (b *browser) checkLooks(name string) {
	b.t.Helper()
	b.do("unfold", chromedp.Evaluate[chromedp.Void](
		`document.querySelectorAll('details').forEach(details => { details.open = true })`))
	for _, width := range []int64{1280, 390} {
		b.do("resize", chromedp.EmulateViewport(width, 900))
		for _, scheme := range []string{"dark", "light"} {
			b.prefer(scheme)
			b.checkAccessibility(fmt.Sprintf("%s, %d pixels, %s", name, width, scheme))
		}
	}
	b.do("back to a wide screen", chromedp.ResetViewport())
}

func TestAccessibility(t *testing.T) {
	f := newFixture(t)
	b := newBrowser(t)
	b.checkEveryLook("with nothing", f.server.URL+"/")

	f.importSample()
	f.exec(`select tinydevcrm.create_matview('numbers', 'select * from sample', 'always')`)
	f.exec(`select tinydevcrm.schedule_matview('numbers', '1 hour')`)
	f.exec(`select tinydevcrm.create_matview('failing', 'select 1 / count(*) as n from sample')`)
	f.exec(`truncate sample`)
	f.refresh("failing")
	b.checkEveryLook("with something", f.server.URL+"/")
	b.checkErrors()
}

// What the page shows after something was done, or has failed.
func TestAccessibilityOfAnswers(t *testing.T) {
	f := newFixture(t)
	b := newBrowser(t)
	f.importSample()
	b.do("open the page", chromedp.Navigate(f.server.URL+"/"))

	b.fill("#view-query", "select *\n  form sample")
	b.click(previewButton)
	b.expect("#view .problem pre", "LINE 2:   form sample")
	b.checkLooks("a query with an error")
	b.fill("#view-query", "select null as nothing, * from sample")
	b.click(previewButton)
	b.expect("#view-preview td", "null")
	b.checkLooks("a query's rows")

	b.chooseFile("orders.csv", threeOrders)
	b.do("see the columns", chromedp.WaitVisible(chromedp.CSS("#upload-plan tr:nth-child(3)")))
	b.choose("#upload-plan tr:nth-child(1) select", "id=text")
	b.checkLooks("types to choose")
	b.chooseFile("ragged.csv", "a,b\n1,2\n3\n4,5,6\n")
	b.click("#upload .buttons button")
	b.expect("#upload .problem .lines tbody tr:nth-child(2)", "4,5,6")
	b.checkLooks("lines that are refused")
	b.checkErrors()
}

// What can be selected, each by its URL.
func TestAccessibilityOfWhatIsChosen(t *testing.T) {
	f := newFixture(t)
	b := newBrowser(t)
	address := func(pairs ...string) string {
		values := url.Values{}
		for i := 0; i < len(pairs); i += 2 {
			values.Set(pairs[i], pairs[i+1])
		}
		return f.server.URL + "/?" + values.Encode()
	}

	f.send(form("POST", "/upload-file?ragged=pad", field{name: "file", file: "ragged.csv", value: "a,b\n1,2\n3\n4,5,6\n"}))
	b.do("open the page", chromedp.Navigate(address("table", f.schema+".ragged")))
	b.click("#tables details summary")
	b.expect("#tables .lines tbody tr:nth-child(2)", "4,5,6")
	b.checkLooks("lines that were repaired")

	f.exec(`select tinydevcrm.create_matview('numbers', 'select n, null as nothing from generate_series(1, 3) as n', 'always')`)
	name := f.schema + " hook"
	f.exec(`select tinydevcrm.create_webhook($1, 'https://example.com/in')`, name)
	for range 4 {
		f.refresh("numbers")
	}
	// One of each: acknowledged, failing, parked, pending.
	f.exec(`with ours as (
	            select deliveries.id, row_number() over (order by deliveries.id) as number
	              from tinydevcrm.deliveries
	              join tinydevcrm.subscriptions
	                on subscriptions.id = subscription_id
	             where name = $1
	        )
	        update tinydevcrm.deliveries
	           set attempts = number,
	               state = case number when 1 then 'acknowledged' when 3 then 'parked' else 'pending' end,
	               hidden_for = interval '1 hour',
	               last_error = case when number in (2, 3) then 'the endpoint answers 500' end
	          from ours
	         where ours.id = deliveries.id and number < 4`, name)
	b.do("open the page", chromedp.Navigate(address("subscription", name)))
	for row, status := range map[int]string{1: "pending", 2: "parked: the endpoint", 3: "failing: the endpoint", 4: "acknowledged"} {
		b.expect(fmt.Sprintf("#deliveries tbody tr:nth-child(%d) td:nth-child(4)", row), status)
	}
	b.checkLooks("deliveries")

	f.exec(`select tinydevcrm.allow_embedding('numbers', '{https://example.com}')`)
	b.do("open the page", chromedp.Navigate(address("matview", "numbers")))
	b.do("unfold the widget", chromedp.Evaluate[chromedp.Void](`document.querySelector('#schedule .snippet').closest('details').open = true`))
	b.expect("#schedule .snippet", "<iframe src=")
	b.checkLooks("a snippet")

	b.do("open the page", chromedp.Navigate(address("table", "gone", "matview", "gone", "schedule", "sometimes")))
	b.expect("#tables .problem", "there is no imported table gone")
	b.checkLooks("problems")
	b.takeErrors() // the expected 404
	b.checkErrors()
}

// The rows of a view, on their own page and on other sites.
func TestAccessibilityOfRows(t *testing.T) {
	f := newFixture(t)
	b := newBrowser(t)
	f.exec(`create table numbers as select n, case n when 1 then null else 'row ' || n end as name from generate_series(1, 3) as n`)
	for name, query := range map[string]string{
		"full": "select * from numbers", "empty": "select * from numbers where n > 3", "failing": "select 1 / count(*) as n from numbers",
	} {
		f.exec(`select tinydevcrm.create_matview($1, $2)`, name, query)
		f.exec(`select tinydevcrm.allow_embedding($1::text::regclass, '{*}')`, name)
	}
	f.exec("truncate numbers")
	f.refresh("failing")

	for _, page := range []struct{ path, selector, says string }{
		{"/matviews/full.html", "td:nth-child(2)", "null"},
		{"/matviews/empty.html", "td.empty", "No rows now"},
		{"/matviews/failing.html", ".problem", "Its refreshes have been failing since"},
		{"/matviews/missing.html", ".problem", "missing"},
		{f.embedPath("full"), "#rows tr:nth-child(3) td:nth-child(2)", "row 3"},
		{f.embedPath("full") + "?as=number&label=The+first", "#number", "1"},
		{f.embedPath("empty"), "#rows td", "no rows"},
		{f.embedPath("empty") + "?as=number", "#number", "no rows"},
		{f.embedPath("missing"), "#problem", "no public view"},
		{f.embedPath("full") + "?theme=light", "#rows td", "1"},
		{f.embedPath("full") + "?theme=dark&as=number", "#number", "1"},
		{f.embedPath("full") + "?back=fdf6e3", "#rows td", "1"},
		{f.embedPath("full") + "?back=808080&label=Numbers", "#rows td", "1"},
		{f.embedPath("full") + "?text=eee8d5&label=Numbers", "#rows td", "1"},
	} {
		b.do("open "+page.path, chromedp.Navigate(f.server.URL+page.path))
		b.expect(page.selector, page.says)
		b.checkLooks(page.path)
		if strings.Contains(page.path, "missing") {
			b.takeErrors() // the expected 404
		}
	}
	b.checkErrors()
}
