package web_test

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// The page of a view subscribes to this view, and not to all.
func TestSubscribeToThisView(t *testing.T) {
	f := newFixture(t)
	f.useViews()
	b := newBrowser(t)
	b.do("open a view", chromedp.Navigate(f.server.URL+"/views/Levels"))
	b.press("#subscribed .button")
	b.expect("h1", "New subscription")
	b.fill("#new-name", "mine")
	b.press("#new form button")
	b.expect("h1", "mine")
	if got := f.text(`select coalesce(matview::text, 'all') from tinydevcrm.subscription_status where subscription = 'mine'`); got != `"Levels"` {
		t.Errorf("the subscription is of %s", got)
	}
	b.checkErrors()
}

// A URL without a name is no reason to leave the subscription out.
func TestViewWithOnlyAURL(t *testing.T) {
	f := newFixture(t)
	got := f.send(post("/matviews", "name", "One", "query", "select 1 as one", "url", "https://example.com/in"))
	if !strings.Contains(got.body, `"subscription":"One"`) && !strings.Contains(got.body, `"subscription": "One"`) {
		t.Errorf("the answer: %d %s", got.status, got.body)
	}
	if of := f.text(`select coalesce(max(matview::text), 'none') from tinydevcrm.subscription_status where subscription = 'One'`); of != `"One"` {
		t.Errorf("the subscription is of %s", of)
	}
}

// The error of a query is in sight, and so is the word that it is about.
func TestErrorsAreInSight(t *testing.T) {
	f := newFixture(t)
	f.useViews()
	b := newBrowser(t)
	b.do("open the editor", chromedp.Navigate(f.server.URL+"/views/new"))
	b.fill("#view-query", `select nope from "My stock"`)
	b.fill("#view-name", "never")
	b.press("#editor form > .buttons:last-of-type button")
	b.expect("#editor .problem", `column "nope" does not exist`)
	const below = `document.querySelector('#editor .problem').getBoundingClientRect().top >= document.querySelector('body > header').getBoundingClientRect().bottom`
	b.waitFor("the error is below the header", below)
	b.click("#editor .run")
	b.waitFor("the word is selected", `(q => q.value.slice(q.selectionStart, q.selectionEnd) === 'nope')(document.getElementById('view-query'))`)
	shown := read(b, "look at the selection", chromedp.Evaluate[string](
		`getComputedStyle(document.getElementById('view-query'), '::selection').webkitTextFillColor`))
	if shown == "rgba(0, 0, 0, 0)" || shown == "transparent" {
		t.Errorf("selected text is %s", shown)
	}
	b.checkErrors()
}

// Who has only chosen a file has imported nothing, whatever option they then try.
func TestRemedyOfAPreviewIsAPreview(t *testing.T) {
	f := newFixture(t)
	b := newBrowser(t)
	b.do("open the form", chromedp.Navigate(f.server.URL+"/upload"))
	b.chooseFile("ragged.csv", "a,b\n1,2\n3\n4,5\n")
	b.expect("#upload-said .lines", "1 field instead of 2")
	b.expect("#upload-said .remedies", "Try again with")
	b.click("#upload-said .remedies button:first-of-type")
	b.expect("#upload-columns th[scope=row]", "a")
	if got := f.text(`select coalesce(to_regclass('ragged')::text, 'nothing')`); got != "nothing" {
		t.Errorf("a remedy of the preview has imported %s", got)
	}
	b.press("#upload .buttons button")
	b.expect("h1", "ragged")
	b.checkErrors()
}
