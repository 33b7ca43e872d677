package web_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// From nothing to a view with a value, by one click.
func TestHomeScreen(t *testing.T) {
	f := newFixture(t)
	b := newBrowser(t)
	b.checkEveryLook("home, new", f.server.URL+"/")
	b.expect("#steps li:first-child .button:not(.second)", "Upload")
	b.press(`form[action="/sample"] button`)
	b.expect(".done", "view sample_now are created")
	b.expect("#views tbody tr td.first", "ok")
	b.checkLooks("home with the sample")

	// Events and views arrive without a reload.
	f.exec(`select tinydevcrm.create_matview('answer', 'select 42 as answer', 'always')`)
	f.refresh("answer")
	b.waitFor("the event arrives", `document.querySelector('#latest').textContent.includes('answer')`)
	b.waitFor("the value arrives", `document.querySelector('#views tbody').textContent.includes('42')`)

	// What fails comes first.
	f.useEvents()
	b.do("reload", chromedp.Reload())
	b.expect("#troubled li", "failing")
	b.expect("#troubled .reason", "division by zero")
	b.expect("#views tbody tr:first-child", "ratio")
	b.checkLooks("home with a failure")
	if got := read(b, "count", chromedp.Evaluate[int](`document.querySelectorAll('main .done').length`)); got != 0 {
		t.Error("after a reload the page still says what was done")
	}

	b.fill("header input", "ati")
	b.pressKey(kb.Enter)
	b.expect("tbody th", "ratio")
	b.checkLooks("search")
	b.checkErrors()
}

func TestHomeScreenWithoutJavaScript(t *testing.T) {
	f := newFixture(t)
	b := newBrowser(t)
	b.do("switch JavaScript off", call(emulation.SetScriptExecutionDisabled,
		emulation.SetScriptExecutionDisabledParams{Value: true}))
	b.do("open the page", chromedp.Navigate(f.server.URL+"/"))
	b.press(`form[action="/sample"] button`)
	b.expect("#views tbody th", "sample_now")
	b.press("#latest h2 a")
	b.expect("h1", "Events")
	b.checkErrors()
}

func TestSampleForPrograms(t *testing.T) {
	f := newFixture(t)
	got := f.send(post("/sample"))
	if got.status != http.StatusCreated || !strings.Contains(got.body, `"matview":"sample_now"`) {
		t.Errorf("the sample: %d %s", got.status, got.body)
	}
	// Once more, beside the first.
	if got := f.follow(post("/sample")); !strings.Contains(got.body, "sample_2_now") {
		t.Errorf("the sample again: %d %s", got.status, got.body)
	}
}
