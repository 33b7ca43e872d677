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

// After each button a browser is on the screen that shows the result.
func TestBrowserIsSentToTheResult(t *testing.T) {
	f := newFixture(t)
	f.importSample()
	f.exec("create materialized view slow_to_fail as select 1 / count(*) as n from sample")
	f.exec("select tinydevcrm.watch_matview('slow_to_fail')")
	for _, test := range []struct {
		request  request
		to, says string
	}{
		{form("POST", "/upload-file", field{name: "file", file: "Q3 Sales.csv", value: "a,b\n1,x\n2,\n3,\"\"\n"}),
			"/tables/" + f.schema + ".q3_sales", "3 rows of Q3 Sales.csv are in the table."},
		{post("/matviews", "name", "v", "query", "select * from sample"), "/views/v", "created"},
		{post("/matviews/schedule", "relation", "v", "schedule", "1 hour"), "/views/v", "schedule is set"},
		{post("/matviews/refresh", "relation", "v"), "/views/v", "refreshed: 10 rows"},
		{post("/matviews/unschedule", "relation", "v"), "/views/v", "no longer scheduled"},
		{post("/matviews/pause", "relation", "v", "back", "/views"), "/views", "Views"},
		{post("/matviews/drop", "relation", "v"), "/views", "View v is dropped."},
	} {
		got := f.send(test.request.fromBrowser())
		if got.status != http.StatusSeeOther || pathOf(got) != test.to {
			t.Fatalf("%s: status %d to %s, want %s: %s", test.request.path, got.status, pathOf(got), test.to, got.body)
		}
		if page := f.send(get(pathOf(got)).fromBrowser()); page.status != 200 || !strings.Contains(page.body, test.says) {
			t.Errorf("%s: status %d, and the page does not say %q: %s", test.request.path, page.status, test.says, page.body)
		}
	}

	f.exec("truncate sample")
	if page := f.follow(post("/matviews/refresh", "relation", "slow_to_fail")); !strings.Contains(problemOf(t, page.body), "failed: division by zero") {
		t.Errorf("the page does not say why the refresh failed: %s", page.body)
	}
}

// A new table with the name of an old one is not the one that the views read.
func TestNoticesOfAnImport(t *testing.T) {
	f := newFixture(t)
	f.importSample()
	f.exec("select tinydevcrm.create_matview('v', 'select * from sample')")
	f.exec("alter table sample rename to former")
	f.importSample()
	want := fmt.Sprintf("view %[1]s.v reads %[1]s.former, which was called %[1]s.sample before", f.schema)
	newest := f.number("select max(id) from tinydevcrm.imports")
	for _, path := range []string{"/tables/" + f.schema + ".sample", fmt.Sprintf("/imports/%d", newest)} {
		if got := f.send(get(path).fromBrowser()); !strings.Contains(got.body, want) {
			t.Errorf("%s does not say that a view reads another table: %s", path, got.body)
		}
	}
}

func TestMutesAreShown(t *testing.T) {
	f := newFixture(t)
	f.watch("seen", "select 1 as n where false")
	f.exec("select tinydevcrm.create_subscription('s')")
	defer f.exec("select tinydevcrm.drop_subscription('s')")
	f.exec("select tinydevcrm.refresh_matview('seen')")
	pages := map[string]string{"/views/" + f.schema + ".seen": "/matviews/unmute", "/subscriptions/s": "/subscriptions/unmute"}
	for path, action := range pages {
		if page := f.send(get(path).fromBrowser()).body; strings.Contains(page, `formaction="`+action) || strings.Contains(page, `action="`+action) {
			t.Errorf("%s before the mute: %s", path, page)
		}
	}
	if page := f.send(get("/views?search=seen").fromBrowser()).body; !strings.Contains(page, "not notified: its rule does not hold") {
		t.Errorf("the list does not say why the view did not notify: %s", page)
	}
	f.send(post("/matviews/mute", "relation", "seen", "mute_for", "1 hour"))
	f.send(post("/subscriptions/mute", "subscription", "s", "mute_for", "1 day"))
	for path, action := range pages {
		if page := f.send(get(path).fromBrowser()).body; !strings.Contains(page, `action="`+action) || !strings.Contains(page, "muted") && !strings.Contains(page, "Muted") {
			t.Errorf("%s during the mute: %s", path, page)
		}
	}
	for _, path := range []string{"/views?search=seen", "/subscriptions?search=s"} {
		if page := f.send(get(path).fromBrowser()).body; !strings.Contains(page, "muted") {
			t.Errorf("%s does not say that it is muted: %s", path, page)
		}
	}
}

// The page of a view offers "on change", or says why not.
func TestOnChangeIsOffered(t *testing.T) {
	f := newFixture(t)
	f.exec("create table changing (n integer)")
	f.watch("tracked", "select n from changing")
	f.watch("clocked", "select now() as at")
	pageOf := func(name string) string { return f.send(get("/views/" + f.schema + "." + name).fromBrowser()).body }
	if page := pageOf("tracked"); !strings.Contains(page, `value="on change"`) {
		t.Errorf("of a tracked view: %s", page)
	}
	if page := pageOf("clocked"); strings.Contains(page, `value="on change"`) || !strings.Contains(page, "it calls now()") {
		t.Errorf("of a view that reads the clock: %s", page)
	}
	f.send(post("/matviews/schedule", "relation", "tracked", "schedule", "On change"))
	if page := pageOf("tracked"); !strings.Contains(page, "when a table that it reads has changed") {
		t.Errorf("when that is: %s", page)
	}
	if answer := f.send(post("/matviews/schedule", "relation", "clocked", "schedule", "on change")); !strings.Contains(answer.body, "clocked cannot be refreshed on change: it calls now()") {
		t.Errorf("a view that reads the clock: %s", answer.body)
	}
}

// Names and values are shown as they are, and long ones are cut.
func TestOddTablesAreShown(t *testing.T) {
	f := newFixture(t)
	const file = `"<b>","O'Neil ""x""",n` + "\n<script>alert(1)</script>,,1\n" + `"",two,2` + "\n"
	got := f.send(form("POST", "/upload-file", field{name: "table", value: `<i>"t"`}, field{name: "file", file: "t.csv", value: file}))
	if got.status != 201 {
		t.Fatalf("import: %d %s", got.status, got.body)
	}
	f.exec(`create table wide as select repeat('é', 1000) as text`)
	odd := f.send(get("/tables/" + url.PathEscape(f.schema+`."<i>""t"""`)).fromBrowser()).body
	for _, want := range []string{
		`&lt;b&gt;</a> <small>text</small>`, `n</a> <small>integer</small>`,
		`<td>&lt;script&gt;alert(1)&lt;/script&gt;</td><td><i>null</i></td><td class="number">1</td>`,
		`<td></td><td>two</td><td class="number">2</td>`, `&#34;&lt;i&gt;&#34;&#34;t&#34;&#34;&#34;`,
	} {
		want = strings.ReplaceAll(want, "%s", f.schema)
		if !strings.Contains(odd, want) {
			t.Errorf("the page lacks %s: %s", want, odd)
		}
	}
	if strings.Contains(odd, "<script>alert") {
		t.Error("the page has a value unescaped")
	}
	if wide := f.send(get("/tables/" + f.schema + ".wide").fromBrowser()).body; !strings.Contains(wide, "<td>"+strings.Repeat("é", 200)+"…</td>") {
		t.Error("a long value is not cut")
	}
}
