package web_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func decode[T any](t *testing.T, got response, status int) T {
	t.Helper()
	var value T
	if got.status != status {
		t.Fatalf("status %d, want %d: %s", got.status, status, got.body)
	}
	if err := json.Unmarshal([]byte(got.body), &value); err != nil {
		t.Fatalf("not the JSON that was expected: %v: %s", err, got.body)
	}
	return value
}

func TestProgramWalksThroughAllSteps(t *testing.T) {
	f := newFixture(t)

	imported := decode[struct {
		TableName string `json:"table_name"`
		RowCount  int64  `json:"row_count"`
	}](t, f.send(form("POST", "/upload-file?table=numbers", field{name: "file", file: "n.csv", value: "n\n1\n2\n"})), 201)
	if imported.TableName != "numbers" || imported.RowCount != 2 {
		t.Errorf("the import is %+v", imported)
	}

	created := decode[struct{ Relation string }](t,
		f.send(post("/matviews", "name", "Odd \"name\"", "query", "select * from numbers", "notify_when", "always")), 201)
	if want := `"Odd ""name"""`; created.Relation != want {
		t.Errorf("the view is %s, want %s", created.Relation, want)
	}

	scheduled := decode[struct{ Schedule string }](t,
		f.send(post("/matviews/schedule", "relation", created.Relation, "schedule", "1 hour")), 200)
	if scheduled.Schedule != "0 * * * *" {
		t.Errorf("the schedule is %q", scheduled.Schedule)
	}

	event := decode[struct {
		Outcome  string
		RowCount int64 `json:"row_count"`
		Rows     []map[string]int
	}](t, f.send(post("/matviews/refresh", "relation", created.Relation)), 200)
	if event.Outcome != "refreshed" || event.RowCount != 2 || len(event.Rows) != 2 || event.Rows[1]["n"] != 2 {
		t.Errorf("the event is %+v", event)
	}

	type status struct{ Relation, Schedule, Status string }
	isListed := func() (found []status) {
		for _, listed := range decode[[]status](t, f.send(get("/matviews")), 200) {
			if listed.Relation == created.Relation {
				found = append(found, listed)
			}
		}
		return found
	}
	if found := isListed(); len(found) != 1 || found[0].Status != "ok" || found[0].Schedule != "1 hour" {
		t.Errorf("the list has %+v", found)
	}

	events := decode[[]struct {
		ID      int64
		Matview string
	}](t, f.send(get("/events")), 200)
	if len(events) < 2 || events[0].ID <= events[1].ID || !strings.HasPrefix(events[0].Matview, f.schema+".") {
		t.Errorf("the events are %+v", events)
	}

	for _, path := range []string{"/matviews/unschedule", "/matviews/drop"} {
		decode[struct{ Relation string }](t, f.send(post(path, "relation", created.Relation)), 200)
	}
	if found := isListed(); len(found) != 0 {
		t.Errorf("the dropped view is listed: %+v", found)
	}
}

func TestBrowserIsSentBackToThePage(t *testing.T) {
	f := newFixture(t)
	f.importSample()
	f.exec("create materialized view slow_to_fail as select 1 / count(*) as n from sample")
	f.exec("select tinydevcrm.watch_matview('slow_to_fail')")

	tests := []struct {
		name     string
		request  request
		step     string
		pageSays string
	}{
		{"upload", form("POST", "/upload-file", field{name: "file", file: "Q3 Sales.csv", value: "a,b\n1,x\n2,\n3,\"\"\n"}),
			"tables", "3 rows of Q3 Sales.csv are in table q3_sales."},
		{"create", post("/matviews", "name", "v", "query", "select * from sample", "table", f.schema+".sample"),
			"schedule", "View v is created."},
		{"schedule", post("/matviews/schedule", "relation", "v", "schedule", "1 hour"),
			"schedule", "View v has been refreshed"},
		{"refresh", post("/matviews/refresh", "relation", "v"), "schedule", "View v has been refreshed: 10 rows"},
		{"unschedule", post("/matviews/unschedule", "relation", "v"), "schedule", "View v is no longer scheduled"},
		{"drop", post("/matviews/drop", "relation", "v"), "schedule", "View v is dropped."},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := f.send(test.request.fromBrowser())
			if got.status != http.StatusSeeOther {
				t.Fatalf("status %d: %s", got.status, got.body)
			}
			path, step, _ := strings.Cut(got.header.Get("Location"), "#")
			if step != test.step {
				t.Errorf("sent to step %q, want %q", step, test.step)
			}
			if page := f.send(get(path).fromBrowser()); page.status != 200 || !strings.Contains(page.body, test.pageSays) {
				t.Errorf("status %d, and the page does not say %q: %s", page.status, test.pageSays, page.body)
			}
		})
	}

	f.exec("truncate sample")
	if page := f.follow(post("/matviews/refresh", "relation", "slow_to_fail")); !strings.Contains(problemOf(t, page.body), "failed: division by zero") {
		t.Errorf("the page does not say why the refresh failed: %s", page.body)
	}
}

// A new table with the name of an old one is not the one that the views read.
func TestPageShowsWhatAnImportDidNotDo(t *testing.T) {
	f := newFixture(t)
	f.importSample()
	f.exec("select tinydevcrm.create_matview('v', 'select * from sample')")
	f.exec("alter table sample rename to former")
	f.importSample()
	want := fmt.Sprintf("Notice: view %[1]s.v reads %[1]s.former, which was called %[1]s.sample before", f.schema)
	if got := f.send(get("/?table=" + f.schema + ".sample")); !strings.Contains(got.body, want) {
		t.Errorf("the page does not say that a view reads another table: %s", got.body)
	}
}

func TestPageShowsWhatIsMuted(t *testing.T) {
	f := newFixture(t)
	f.watch("seen", "select 1 as n where false")
	f.exec("select tinydevcrm.create_subscription('s')")
	defer f.exec("select tinydevcrm.drop_subscription('s')")
	f.exec("select tinydevcrm.refresh_matview('seen')")
	before := f.send(get("/?subscription=s&matview=seen")).body
	if strings.Contains(before, "muted until") || strings.Contains(before, "End the mute") ||
		!strings.Contains(before, "not notified: rule") {
		t.Errorf("before the mutes: %s", before)
	}
	f.send(post("/matviews/mute", "relation", "seen", "mute_for", "1 hour"))
	f.send(post("/subscriptions/mute", "subscription", "s", "mute_for", "1 day"))
	muted := f.send(get("/?subscription=s&matview=seen")).body
	if strings.Count(muted, "; muted until <time") != 2 || strings.Count(muted, "End the mute") != 2 {
		t.Errorf("during the mutes: %s", muted)
	}
}

// The page offers "on change", or says why not.
func TestPageOffersOnChange(t *testing.T) {
	f := newFixture(t)
	f.exec("create table changing (n integer)")
	f.watch("tracked", "select n from changing")
	f.watch("clocked", "select now() as at")
	const option, reason = `<option value="on change">`, "Not on change: it calls now()"
	if page := f.send(get("/?matview=tracked")).body; !strings.Contains(page, option) || strings.Contains(page, "Not on change") {
		t.Errorf("of a tracked view: %s", page)
	}
	if page := f.send(get("/?matview=clocked")).body; strings.Contains(page, option) || !strings.Contains(page, reason) {
		t.Errorf("of a view that reads the clock: %s", page)
	}
	f.send(post("/matviews/schedule", "relation", "tracked", "schedule", "On change"))
	if page := f.send(get("/?matview=tracked&schedule=on+change")).body; !strings.Contains(page, "when a table that it reads has changed</small>") {
		t.Errorf("when that is: %s", page)
	}
	if answer := f.send(post("/matviews/schedule", "relation", "clocked", "schedule", "on change")); !strings.Contains(answer.body, "clocked cannot be refreshed on change: it calls now()") {
		t.Errorf("a view that reads the clock: %s", answer.body)
	}
}

func TestPageShowsTables(t *testing.T) {
	f := newFixture(t)
	const file = `"<b>","O'Neil ""x""",n` + "\n<script>alert(1)</script>,,1\n" + `"",two,2` + "\n"
	got := f.send(form("POST", "/upload-file", field{name: "table", value: `<i>"t"`}, field{name: "file", file: "t.csv", value: file}))
	if got.status != 201 {
		t.Fatalf("import: %d %s", got.status, got.body)
	}
	f.importSample()
	f.exec(`insert into sample select 1 from generate_series(1, 100)`)
	f.send(form("POST", "/upload-file", field{name: "file", file: "gone.csv", value: "n\n1\n"}))
	f.exec("drop table gone")
	f.exec(`create table "wide" (text text)`)
	f.exec(`insert into tinydevcrm.imports (source, mode, schema_name, table_name, row_count, finished_at)
	        values ('wide.csv', 'create', $1, 'wide', 1, now())`, f.schema)
	f.exec(`insert into wide values (repeat('é', 1000))`)

	pageOf := func(name string, status int) string {
		t.Helper()
		got := f.send(get("/?" + url.Values{"table": {name}}.Encode()))
		if got.status != status {
			t.Fatalf("table %s: status %d, want %d", name, got.status, status)
		}
		return got.body
	}

	odd := pageOf(f.schema+`.<i>"t"`, 200)
	for _, want := range []string{
		`<th scope="col">&lt;b&gt; <small>text</small></th>`, `<th scope="col">n <small>integer</small></th>`,
		`<td>&lt;script&gt;alert(1)&lt;/script&gt;</td><td><i>null</i></td><td>1</td>`,
		`<td></td><td>two</td><td>2</td>`,
		`from &#34;&lt;i&gt;&#34;&#34;t&#34;&#34;&#34;`,
	} {
		if !strings.Contains(odd, want) {
			t.Errorf("the page lacks %s: %s", want, odd)
		}
	}
	if strings.Contains(odd, "<script>alert") || strings.Contains(odd, ">gone<") {
		t.Error("the page has a value unescaped, or a table that is gone")
	}

	// Also by its quoted name, with no more than ten rows, and with a query that suits the sample.
	sample := pageOf(f.schema+".sample", 200)
	if count := strings.Count(sample, "<tr><td>"); count != 10 {
		t.Errorf("the page shows %d rows of the sample", count)
	}
	if !strings.Contains(sample, "floor(extract(second from now()))") {
		t.Error("the page does not suggest the sample's query")
	}
	pageOf(fmt.Sprintf(`%s."<i>""t"""`, f.schema), 200)

	if wide := pageOf("", 200); !strings.Contains(wide, "<td>"+strings.Repeat("é", 200)+"…</td>") {
		t.Error("the newest table is not shown, or its long value is not cut")
	}
	if missing := pageOf("no.such", 404); !strings.Contains(problemOf(t, missing), "there is no imported table no.such") {
		t.Errorf("the page does not say which table is missing: %s", missing)
	}
}
