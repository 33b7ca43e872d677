package web_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// useViews makes a view with rows and events, one that fails, and one that reads the first.
func (f *fixture) useViews() {
	f.t.Helper()
	f.exec(`create table "My stock" (id int primary key, n int, "the name" text)`)
	f.exec(`insert into "My stock" select i, i * 1000, 'thing ' || i % 4 from generate_series(1, 120) as i`)
	f.exec(`select tinydevcrm.create_matview('Levels', 'select id, n, "the name" from "My stock"', 'changed', key => array['id'])`)
	f.exec(`select tinydevcrm.create_matview('ratio', 'select 1000 / n as share from "My stock" where id = 1', 'always')`)
	f.exec(`select tinydevcrm.create_matview('above', 'select count(*) as many from "Levels"', 'changed')`)
	f.exec(`select tinydevcrm.create_subscription('worker', '"Levels"')`)
	// The fixture drops views one by one, and not those that others read.
	f.t.Cleanup(func() {
		_, _ = f.pool.ExecContext(context.Background(), "drop materialized view if exists above")
	})
	f.refresh(`"Levels"`)
	f.refresh("ratio")
	f.exec(`update "My stock" set n = 0 where id = 1`)
	f.refresh(`"Levels"`)
	f.refresh("ratio")
}

func TestViewsScreen(t *testing.T) {
	f := newFixture(t)
	b := newBrowser(t)
	b.checkEveryLook("no views", f.server.URL+"/views")
	b.expect("#list .empty", "No views yet.")

	f.useViews()
	b.do("open the views", chromedp.Navigate(f.server.URL+"/views"))
	b.expect("#views tbody tr:first-child td.first.bad", "division by zero")
	b.checkLooks("views")
	b.choose("#list-state", "failing")
	b.press("#views .search button")
	b.expect("#views tbody tr:only-child th", "ratio")
	b.do("all again", chromedp.Navigate(f.server.URL+"/views?sort=name"))
	b.expect("#views tbody tr:first-child th", `"Levels"`)
	b.press("#views tbody tr:first-child a")

	b.expect("h1", `"Levels"`)
	b.expect("#state dd a", `"My stock"`)
	b.expect("#status .sqlcode", `FROM "My stock"`)
	b.expect("#subscribed li", "worker")
	b.expect("#events .old", "1000")
	b.expect("#events .new", "0")
	b.expect("#drop li", "above")
	b.expect("#rows p", "120 rows")
	b.checkLooks("a view")

	// Rows are sorted, filtered, and by pages.
	b.do("filter", chromedp.SetValue(chromedp.CSS(`[name="where.the name"]`), "= thing 3"))
	b.press("#rows button")
	b.expect("#rows p", "30 rows with these values")

	// A schedule is said in words as it is typed, and presets fill it in.
	b.fill("#schedule-schedule", "0 7 * * 1")
	b.waitFor("the words", `document.getElementById('schedule-when').textContent.startsWith('every Monday at 07:00')`)
	b.do("a preset", chromedp.Evaluate[chromedp.Void](
		`[...document.querySelectorAll('.presets button')].find(button => button.textContent == 'hourly').click()`))
	b.waitFor("other words", `document.getElementById('schedule-when').textContent.startsWith('every hour')`)
	b.press("#schedule .buttons button:first-of-type")
	b.expect(".done", "The schedule is set, and the view is refreshed: 120 rows.")
	b.expect("#state", "hourly")
	b.do("reload", chromedp.Reload())
	b.do("it is said once", chromedp.WaitNotPresent(chromedp.CSS(".done")))

	// What a rule would have done.
	b.press("#rule [name=replay]")
	b.expect("#replay", "this rule would have notified 1 time.")
	b.checkLooks("a replay")
	b.fill("#watch-interval", "soon")
	b.press("#rule .buttons button:first-of-type")
	b.expect("#rule .problem", "soon")
	if kept := b.value("#watch-interval"); kept != "soon" {
		t.Errorf("the form has %q, want what was typed", kept)
	}
	b.do("a failing one", chromedp.Navigate(f.server.URL+"/views/ratio"))
	b.expect("#state .bad", "failing")
	b.press("#status form button:first-of-type")
	b.expect(".problem", "The refresh failed: division by zero")
	b.checkLooks("a failing view")
	b.checkErrors()
}

func TestQueryEditor(t *testing.T) {
	f := newFixture(t)
	b := newBrowser(t)
	b.checkEveryLook("nothing to ask", f.server.URL+"/views/new")
	f.useViews()
	b.do("open the editor", chromedp.Navigate(f.server.URL+"/views/new?table="+f.schema+`."My stock"`))
	if got := b.value("#view-query"); got != "select *\n  from \"My stock\"" {
		t.Errorf("the editor begins with %q", got)
	}

	// Ctrl+Enter runs it, under the editor. An error is selected where it is.
	b.fill("#view-query", "select n from \"My stock\" where nope > 1")
	b.do("run", chromedp.Focus(chromedp.CSS("#view-query")), chromedp.KeyEvent(kb.Enter, chromedp.KeyModifiers(2)))
	b.expect("#editor .problem", `column "nope" does not exist`)
	b.waitFor("the word is selected", `(q => q.value.slice(q.selectionStart, q.selectionEnd) === 'nope')(document.getElementById('view-query'))`)
	b.checkLooks("an error")

	// Names are completed: the columns of the table first.
	b.fill("#view-query", `select * from "My stock" where `)
	b.waitFor("the names are there", `document.querySelector(".tok-name") !== null`)
	b.do("type", chromedp.KeyEvent("the"))
	b.expect("#completions [aria-selected=true]", `"the name"`)
	b.checkLooks("names")
	b.do("take it", chromedp.KeyEvent(kb.Tab))
	if got := b.value("#view-query"); got != `select * from "My stock" where "the name"` {
		t.Errorf("the completed query is %q", got)
	}
	b.do("the rest", chromedp.KeyEvent(` = 'thing 1'`))
	b.click("#editor .run")
	b.expect("#result tbody tr:first-child td.number", "5")
	b.expect("#editor output", "Done after ")
	b.checkLooks("a result")

	// A long query can be cancelled, and the server stops it.
	b.fill("#view-query", "select pg_sleep(25)::text as slept")
	b.click("#editor .run")
	b.waitFor("it runs", `document.querySelector('#editor output').textContent.startsWith('Running for ')`)
	b.clickAtOnce("#editor .stop")
	b.waitFor("it is cancelled", `document.querySelector('#editor output').textContent === 'Cancelled.'`)
	f.waitUntil("the query ends", `select not exists (
		select from pg_stat_activity where query like '%preview_query%' and state = 'active' and pid <> pg_backend_pid())`)

	// View, schedule and subscription at once.
	b.fill("#view-query", `select count(*) as many from "My stock"`)
	b.fill("#view-name", "Counted")
	b.fill("#view-schedule", "hourly")
	b.fill("#view-subscription", "counts")
	b.fill("#view-url", "https://example.com/in")
	b.press("#editor form > .buttons:last-of-type button")
	b.expect("h1", `"Counted"`)
	b.expect(".done", "whsec_")
	b.expect("#state", "hourly")
	b.expect("#subscribed", "counts")
	b.do("the secret is there after a reload", chromedp.Reload())
	b.expect(".done", "whsec_")

	b.press(`#status a[href$="/edit"]`)
	b.expect("h1", `Query of "Counted"`)
	b.fill("#view-query", `select count(*) as many, 'x' as other from "My stock"`)
	b.click("#editor .run")
	b.expect("#result .notice", "other is new (text)")
	b.checkLooks("an edit")
	b.press("#editor form > .buttons:last-of-type button")
	b.expect(".done", "The view has its new query.")
	b.checkErrors()
}

func TestViewsWithoutJavaScript(t *testing.T) {
	f := newFixture(t)
	f.useViews()
	b := newBrowser(t)
	b.do("switch JavaScript off", call(emulation.SetScriptExecutionDisabled,
		emulation.SetScriptExecutionDisabledParams{Value: true}))
	b.do("open the editor", chromedp.Navigate(f.server.URL+"/views/new"))
	b.do("a query", chromedp.SetValue(chromedp.CSS("#view-query"), `select id from "My stock" where n < 3000 order by id`))
	b.do("a name", chromedp.SetValue(chromedp.CSS("#view-name"), "few"))
	b.press("#editor .run")
	b.expect("#result tbody tr:nth-child(2) td", "2")
	b.press("#editor form > .buttons:last-of-type button")
	b.expect("h1", "few")
	b.expect(".done", "The view is created.")
	b.do("a schedule", chromedp.SetValue(chromedp.CSS("#schedule-schedule"), "0 7 * * 1"))
	b.press("#schedule .when")
	b.expect("#schedule-when", "every Monday at 07:00 (GMT); next ")
	b.do("no schedule", chromedp.SetValue(chromedp.CSS("#schedule-schedule"), "* * *"))
	b.press("#schedule .buttons button:first-of-type")
	b.expect("#schedule .problem", "is not a schedule")
	b.press(`#status [formaction="/matviews/mute"]`)
	b.expect("#state", "muted")
	b.click("#drop summary")
	b.press("#drop .drop")
	b.expect(".done", "is dropped.")
	b.press("#dropped td button")
	b.expect("h1", "few")
	b.expect(".done", "made again")
	b.checkErrors()
}

func TestViewRoutes(t *testing.T) {
	f := newFixture(t)
	f.useViews()
	for _, test := range []struct {
		path, accept, contentType, says string
		status                          int
	}{
		{"/views", "", "application/json", `"relation":"\"Levels\""`, http.StatusOK},
		{"/views/Levels.csv?where.id=%3C%203&sort=-id", "", "text/csv", "id,n,the name\r\n2,2000,thing 2\r\n1,0,thing 1\r\n", http.StatusOK},
		{"/matviews/Levels.json?where.id=%3D1", "text/html", "application/json", `[{"id":1,"n":0,"the name":"thing 1"}]`, http.StatusOK},
		{"/views/Levels?where.id=%3C33", "text/html", "text/html", "32 rows with these values", http.StatusOK},
		{"/views/Levels?where.nothing=1", "text/html", "text/html", "has no column nothing", http.StatusUnprocessableEntity},
		{"/views/Levels?schedule=whenever", "text/html", "text/html", "is not a schedule", http.StatusUnprocessableEntity},
		{"/views/none", "text/html", "text/html", "none is not watched", http.StatusNotFound},
		{"/views/none/edit", "text/html", "text/html", "none is not watched", http.StatusNotFound},
		{"/views/names", "", "application/json", `{"relation":"\"My stock\"","columns":["id","n","\"the name\""],"types":["integer","integer","text"]}`, http.StatusOK},
		{"/rules/replay?relation=ratio&notify_when=always", "", "application/json", `"count":2`, http.StatusOK},
	} {
		request := get(test.path)
		if test.accept != "" {
			request = withHeader(request, "Accept", test.accept)
		}
		got := f.send(request)
		if got.status != test.status || !strings.HasPrefix(got.header.Get("Content-Type"), test.contentType) || !strings.Contains(got.body, test.says) {
			t.Errorf("%s: status %d, %s: %s", test.path, got.status, got.header.Get("Content-Type"), got.body)
		}
	}
	if got := f.send(get("/matviews/Levels").fromBrowser()); got.status != http.StatusSeeOther || pathOf(got) != "/views/Levels" {
		t.Errorf("a browser at /matviews/Levels: %d %s", got.status, got.header.Get("Location"))
	}
}

// waitUntil waits until a query says true.
func (f *fixture) waitUntil(what, query string) {
	f.t.Helper()
	for end := time.Now().Add(deadline); ; {
		if f.text("select ("+query+")::text") == "true" {
			return
		}
		if time.Now().After(end) {
			f.t.Fatalf("%s: not within %s", what, deadline)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
