package web_test

import (
	"fmt"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

const threeOrders = "id,total,zip\n1,10.50,0107\n2,99.90,1234\n3,7.25,5678\n"

// walk goes from a file to its first notification, and returns the number of clicks.
func (b *browser) walk(f *fixture, upload func()) (clicks int) {
	b.t.Helper()
	press := func(selector string) {
		b.t.Helper()
		clicks++
		b.press(selector)
	}
	b.do("open the page", chromedp.Navigate(f.server.URL+"/"))
	press("#steps li:nth-child(1) .button")
	clicks++
	b.chooseFile("sample.csv", "")
	clicks++
	upload()
	b.expect(".done", "10 rows of sample.csv are in the table")
	b.expect("#rows-table, .data", "AColumnOfNumbers")
	press(`main [href^="/views/new"]`)
	b.expect("#view-query", "")
	b.fill("#view-schedule", "1 hour")
	b.fill("#view-subscription", f.schema+" mine")
	press("#editor .buttons button:not(.run):not(.stop)")
	b.expect(".done", "created")
	press(`header a[href="/events"]`)
	b.expect("#feed li .matview", f.schema+".sample_now")
	b.expect("#feed li .count", "1 row")
	press("#feed li .id")
	b.expect("#event tbody th", f.schema+" mine")
	return clicks
}

func TestFromFileToNotification(t *testing.T) {
	f := newFixture(t)
	b := newBrowser(t)
	if clicks := b.walk(f, func() { b.press("#upload .buttons button") }); clicks > 8 {
		t.Errorf("it takes %d clicks, want at most 8", clicks)
	}
	// What is gone stays gone, also for who goes back and reloads.
	b.press("#event dd a")
	b.expect("h1", "sample_now")
	b.do("reload", chromedp.Reload())
	b.expect("h1", "sample_now")
	if count := read(b, "count", chromedp.Evaluate[int](`document.querySelectorAll('main .done, main .problem').length`)); count != 0 {
		t.Error("a reload says again what was done")
	}
	b.checkErrors()
}

func TestFromFileToNotificationWithoutJavaScript(t *testing.T) {
	f := newFixture(t)
	b := newBrowser(t)
	b.do("switch JavaScript off", call(emulation.SetScriptExecutionDisabled,
		emulation.SetScriptExecutionDisabledParams{Value: true}))
	b.walk(f, func() { b.press("#upload .buttons button") })
	b.checkErrors()
}

// The workflow with only the keyboard, from the table on: a browser's dialog for files takes no keys of a test.
func TestFromTableToNotificationByKeyboard(t *testing.T) {
	f := newFixture(t)
	f.importSample()
	b := newBrowser(t)
	b.do("open the table", chromedp.Navigate(f.server.URL+"/tables/"+f.schema+".sample"))
	b.tabTo(`main [href^="/views/new"]`)
	b.pressKey(kb.Enter)
	b.tabTo("#view-name")
	b.do("write the name", chromedp.KeyEvent("a", chromedp.KeyModifiers(chromedp.ModifierCtrl)), chromedp.KeyEvent("by_keys"))
	b.tabTo("#view-schedule")
	b.do("write the schedule", chromedp.KeyEvent("1 hour"))
	b.tabTo("#editor .buttons button:not(.run):not(.stop)")
	b.pressKey(kb.Enter)
	b.expect("h1", "by_keys")
	b.expect(".done", "created")
	b.tabTo(`header a[href="/events"]`)
	b.pressKey(kb.Enter)
	b.expect("#feed li .matview", fmt.Sprintf("%s.by_keys", f.schema))
	b.checkErrors()
}

// tabTo presses Tab until an element has the focus, which must be visible.
func (b *browser) tabTo(selector string) {
	b.t.Helper()
	for range 200 {
		b.do("press the tabulator", chromedp.KeyEvent(kb.Tab))
		at := read(b, "look where it is", chromedp.Evaluate[string](fmt.Sprintf(
			`document.activeElement.matches(%q) ? getComputedStyle(document.activeElement).outlineStyle : ''`, selector)))
		if at == "none" {
			b.t.Errorf("%s has the focus, and nothing shows it", selector)
		}
		if at != "" {
			return
		}
	}
	b.t.Fatalf("no key leads to %s", selector)
}

// pressKey presses a key that leads to another page.
func (b *browser) pressKey(key string) {
	b.t.Helper()
	read(b, "press a key", chromedp.WaitEvent(page.LoadEventFired, nil, chromedp.KeyEvent(key)))
}
