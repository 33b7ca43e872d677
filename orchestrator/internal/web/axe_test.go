package web_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// everyRule and onlyContrast are what https://github.com/dequelabs/axe-core looks for.
const (
	everyRule    = `['wcag2a', 'wcag2aa', 'wcag21aa', 'best-practice']`
	onlyContrast = `['color-contrast']`
)

// runAxe returns what it finds on the page.
const runAxe = `axe.run(document, { resultTypes: ['violations'], runOnly: %s }).then(found => found.violations.map(violation => ({
	rule: violation.id,
	help: violation.help + ': ' + violation.helpUrl,
	targets: violation.nodes.map(node => node.target.join(' ') + ' ' + node.any.map(check => check.message).join('; ')),
})))`

// checkAccessibility fails for what keeps people from using the page as it is shown now.
func (b *browser) checkAccessibility(name, rules string) {
	b.t.Helper()
	if !read(b, "look for axe-core", chromedp.Evaluate[bool](`'axe' in window`)) {
		axe, err := os.ReadFile("../../../.run/axe.min.js")
		if err != nil {
			b.t.Fatalf("read axe-core (scripts/setup gets it): %v", err)
		}
		// Not by a script element, which the page's policy forbids.
		b.do("load axe-core", chromedp.Evaluate[chromedp.Void](string(axe)))
	}

	type violation struct {
		Rule, Help string
		Targets    []string
	}
	found := read(b, "run axe-core", chromedp.Evaluate[[]violation](fmt.Sprintf(runAxe, rules), chromedp.EvalAwaitPromise))
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
		// Of the two schemes only the colours differ.
		b.prefer("dark")
		b.checkAccessibility(fmt.Sprintf("%s, %d pixels, dark", name, width), everyRule)
		b.prefer("light")
		b.checkAccessibility(fmt.Sprintf("%s, %d pixels, light", name, width), onlyContrast)
	}
	b.do("back to a wide screen", chromedp.ResetViewport())
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
		{"/views/" + f.schema + ".full", ".data tbody td:nth-child(2)", "null"},
		{"/views/" + f.schema + ".empty", ".data tbody td.empty", "No rows"},
		{"/views/" + f.schema + ".failing", "#state", "failing"},
		{"/views/missing", ".problem", "missing"},
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
