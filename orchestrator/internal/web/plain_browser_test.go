package web_test

import (
	"fmt"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

func TestBrowserWithoutJavaScript(t *testing.T) {
	f := newFixture(t)
	b := newBrowser(t)
	b.do("switch JavaScript off", call(emulation.SetScriptExecutionDisabled,
		emulation.SetScriptExecutionDisabledParams{Value: true}))
	b.walk(f, func() { b.press("#upload .second") })

	for range 2 {
		later := f.refresh("sample_now")
		b.press("#feed-state a")
		b.expect(fmt.Sprintf(`#feed li:first-child[data-id="%d"] .count`, later), "1 row")
	}
	b.press(`#schedule [formaction^="/matviews/refresh"]`)
	b.expect("#schedule .done", "has been refreshed: 1 row")
	b.press(`#schedule [formaction^="/matviews/unschedule"]`)
	b.expect("#schedule .done", "View sample_now is no longer scheduled.")

	// A page with an error keeps the user's input.
	b.fill("#schedule-schedule", "* * *")
	b.press(scheduleButton)
	b.expect("#schedule .problem", "is not a schedule")
	if kept := b.value("#schedule-schedule"); kept != "* * *" {
		t.Errorf("the schedule is %q, want it as it was written", kept)
	}
	b.fill("#schedule-schedule", "0 7 * * 1")
	b.press("#schedule .when")
	b.expect("#schedule-when", "every Monday at 07:00 (GMT); next ")

	// A type is chosen, and the file is chosen again.
	b.chooseFile("orders.csv", threeOrders)
	b.press("#upload .second")
	b.choose("#upload-plan tr:nth-child(1) select", "id=text")
	b.chooseFile("orders.csv", threeOrders)
	b.press("#upload .second")
	if kept := b.value("#upload-plan tr:nth-child(1) select"); kept != "id=text" {
		t.Errorf("the type is %q after another preview, want the one that was chosen", kept)
	}
	b.chooseFile("orders.csv", threeOrders)
	b.press("#upload .buttons button")
	b.expect("#preview th:nth-child(1) small", "text")

	b.fill("#view-query", "select nope from orders")
	b.press(previewButton)
	b.expect("#view .problem pre", "LINE 1: select nope from orders")
	b.fill("#view-query", "select total from orders order by id")
	b.press(previewButton)
	b.expect("#view-preview td", "10.50")

	b.click("#notify .options summary")
	name := f.schema + " plain"
	b.fill("#notify-name", name)
	b.press(`#notify form[action^="/subscriptions"] button`)
	b.expect("#notify .done", "is created")
	b.click("#notify .danger summary")
	b.press("#notify .drop")
	b.expect("#notify .done", "is dropped")

	b.click("#schedule .danger summary")
	b.press("#schedule .drop")
	b.expect("#schedule .done", "is dropped.")
	b.do("the view is gone", chromedp.WaitNotPresent(chromedp.CSS("#matviews [data-relation=sample_now]")))
	b.checkErrors()
}

// The whole workflow with only the keyboard.
func TestBrowserByKeyboard(t *testing.T) {
	f := newFixture(t)
	f.importSample()
	b := newBrowser(t)
	b.do("open the page", chromedp.Navigate(f.server.URL+"/"))

	b.do("the first key leads to the way past all", chromedp.KeyEvent(kb.Tab))
	focused := read(b, "look where it is", chromedp.Evaluate[string](`document.activeElement.className`))
	if focused != "skip" {
		t.Errorf("the first key leads to %q", focused)
	}
	b.tabTo("#view-name")
	b.do("write the name", chromedp.KeyEvent("a", chromedp.KeyModifiers(chromedp.ModifierCtrl)), chromedp.KeyEvent("by_keys"))
	b.tabTo("#view input[value=not_empty]")
	b.do("choose the rule", chromedp.KeyEvent(kb.ArrowDown), chromedp.KeyEvent(kb.ArrowUp))
	b.tabTo(createButton)
	b.pressKey(kb.Enter)
	b.expect("#schedule .done", "View by_keys is created.")

	b.tabTo("#schedule-schedule")
	b.do("write the schedule", chromedp.KeyEvent("a", chromedp.KeyModifiers(chromedp.ModifierCtrl)), chromedp.KeyEvent("1 hour"))
	b.pressKey(kb.Enter)
	b.expect("#schedule .done", "View by_keys has been refreshed")
	b.tabTo("#schedule .danger summary")
	b.do("unfold", chromedp.KeyEvent(kb.Enter))
	b.tabTo("#schedule .drop")
	b.pressKey(kb.Enter)
	b.expect("#schedule .done", "is dropped.")
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
	read(b, "press a key", chromedp.WaitEvent(page.LoadEventFired,
		func(page.EventLoadEventFired) bool { return true }, chromedp.KeyEvent(key)))
}
