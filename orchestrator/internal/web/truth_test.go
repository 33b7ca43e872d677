package web_test

import (
	"fmt"
	"html"
	"regexp"
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
	// The text of the field is transparent, so the colours below it must show through.
	shown := read(b, "look at the selection", chromedp.Evaluate[string](
		`getComputedStyle(document.getElementById('view-query'), '::selection').backgroundColor`))
	if !strings.Contains(shown, " / 0.") {
		t.Errorf("the selection hides the text: %s", shown)
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

// A new user has done none of the steps, whatever the program has made for itself.
func TestHomeCountsNotItsOwnLog(t *testing.T) {
	f := newFixture(t)
	f.exec("select tinydevcrm.create_subscription('log')")
	page := f.send(get("/").fromBrowser()).body
	steps := sectionOf(t, page, "steps")
	if strings.Contains(steps, "done-step") || strings.Contains(page, "<b>1</b> subscription") {
		t.Errorf("the page counts the log as a subscription of a new user: %s", page)
	}
	f.exec("select tinydevcrm.create_subscription('mine')")
	if steps := sectionOf(t, f.send(get("/").fromBrowser()).body, "steps"); !strings.Contains(steps, "done-step") {
		t.Errorf("a subscription of the user is not counted: %s", steps)
	}
}

// What a page says is so.
func TestPagesSayWhatIsSo(t *testing.T) {
	f := newFixture(t)
	f.useViews()
	f.exec(`select tinydevcrm.create_webhook('hook', 'https://example.com/in', '"Levels"')`)
	f.exec(`select tinydevcrm.create_email('mail', array['ann@example.com'], '"Levels"')`)
	check := func(what, page, want, not string) {
		t.Helper()
		if !strings.Contains(page, want) || not != "" && strings.Contains(page, not) {
			_, page, _ = strings.Cut(page, "<main")
			t.Errorf("%s: want %q, not %q: %s", what, want, not, page)
		}
	}
	show := func(path string) string { return f.send(get(path).fromBrowser()).body }

	f.watch("quiet", "select 1 as n where false")
	f.exec(`select tinydevcrm.create_subscription('early', 'quiet')`)
	check("an invented event", show("/subscriptions/early"), "For an example: it has no event yet", "For its last event")
	check("no mail server", show("/subscriptions/mail"), "no mail server: its e-mails wait until the orchestrator has an SMTP_URL", "")
	check("the fields of an e-mail", show("/subscriptions/mail"), "Addresses", "webhook-headers")
	f.exec(`update "My stock" set n = n + 1 where id = 3`)
	event := f.refresh(`"Levels"`)
	check("an event", show("/subscriptions/hook"), "For its last event", "For an example")
	check("a mail without a server", show("/subscriptions/mail"), "Waiting</dt><dd>1", "Next attempt")
	check("deliveries that wait", show(fmt.Sprint("/events/", event)), "<h2>Deliveries</h2>", "Delivered to")
	f.exec(`update tinydevcrm.deliveries set visible_at = now() - interval '1 minute', last_error = 'away', attempts = 1 where event_id = $1`, event)
	check("an attempt that is due", show("/subscriptions/hook"), `>now</time>`, "")
	next := regexp.MustCompile(`Next attempt</dt><dd>(.*)</dd>`).FindStringSubmatch(show("/subscriptions/hook"))
	if next == nil || !strings.Contains(next[1], ">now<") || strings.Contains(next[1], "ago") {
		t.Errorf("an attempt that is due: %q", next)
	}
	check("the rule of a view", show("/views"), "when its rows change", ">changed<")
	f.refresh(`"Levels"`)
	check("no notification", show("/views/Levels"), "not notified: its rule does not hold", "")

	const preview = "A preview shows at most 10 rows."
	check("120 rows", f.follow(post("/matviews/preview", "query", `select * from "My stock"`)).body, preview, "")
	check("2 rows", f.follow(post("/matviews/preview", "query", `select * from "My stock" order by id limit 2`)).body, "thing 1", preview)
	made := f.follow(post("/subscriptions", "new_subscription", "secret", "url", "https://example.com/new")).body
	check("a secret", made, "only for a few minutes", "not show it again")
}

// A preview says how values are written as they are in the file.
func TestPreviewSaysHowValuesAreWritten(t *testing.T) {
	f := newFixture(t)
	got := f.follow(form("POST", "/upload-file?dry_run=1", field{name: "file", file: "kunden.csv",
		value: "Nr;Umsatz;Datum\n1;1.234,56;25.04.2026\n2;12.000,00;01.05.2026\n"}))
	for _, want := range []string{"numeric, written like 1.234,56", "date, written like D.M.Y"} {
		if !strings.Contains(got.body, want) {
			t.Errorf("the preview lacks %q: %s", want, got.body)
		}
	}
}

// What the page advises is on the page: the fields of its form, and no options of the command line.
func TestAdviceOfThePage(t *testing.T) {
	f := newFixture(t)
	f.send(get("/upload").fromBrowser())
	got := f.follow(form("POST", "/upload-file", field{name: "file", file: "ragged.csv", value: "a,b\n1,2\n3\n4,5,6\n7,8\n"}))
	advice := html.UnescapeString(got.body)
	for _, want := range []string{
		"“Lines with too few or too many fields: fill up, or add columns” fills up short lines",
		"(“Delimiter”, “Quote”)",
	} {
		if !strings.Contains(advice, want) {
			t.Errorf("the page lacks %q: %s", want, problemOf(t, got.body))
		}
	}
	f.send(get("/upload").fromBrowser())
	many := f.follow(form("POST", "/upload-file", field{name: "file", file: "ragged.csv", value: "a,b\n" + strings.Repeat("1,2\n3\n4,5\n", 25)}))
	if !strings.Contains(many.body, "<p>and 5 more</p>") {
		t.Errorf("25 lines look like 20: %s", problemOf(t, many.body))
	}
	if problem := problemOf(t, got.body); strings.Contains(problem, "--") {
		t.Errorf("the page advises an option of the command line: %s", problem)
	}
	got = f.send(form("POST", "/upload-file", field{name: "file", file: "ragged.csv", value: "a,b\n1,2\n3\n4,5,6\n7,8\n"}))
	if !strings.Contains(got.body, "--ragged pad") {
		t.Errorf("a program gets %s", got.body)
	}
}
