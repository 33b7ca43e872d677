package web_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

// A preview rolls back everything that a query does besides returning rows.
func TestPreviewLeavesNoTrace(t *testing.T) {
	f := newFixture(t)
	f.exec("create table numbers (n integer)")
	f.exec(`create function busy() returns bigint language plpgsql as $$
	        declare
	            count bigint;
	        begin
	            insert into numbers values (1);
	            count := (select count(*) from numbers);
	            create table made (n integer);
	            perform set_config('search_path', 'pg_catalog', false), set_config('tinydevcrm.mood', 'odd', false);
	            perform pg_notify('matview_refresh_channel', '1');
	            return count;
	        end $$`)
	// As many as the pool has connections and more, so that each is used again.
	for range 20 {
		got := f.send(post("/matviews/preview", "query", "select busy() as n"))
		if got.status != 200 || !strings.Contains(got.body, `"rows":[["1"]]`) {
			t.Fatalf("the preview gives %d %s", got.status, got.body)
		}
	}
	for name, count := range map[string]int64{
		"rows":             f.number("select count(*) from numbers"),
		"tables":           f.number("select count(*) from pg_class where relnamespace = $1::text::regnamespace and relname = 'made'", f.schema),
		"temporary views":  f.number("select count(*) from pg_class where relname = '_query_preview'"),
		"settings":         f.number("select (coalesce(current_setting('tinydevcrm.mood', true), '') <> '')::int"),
		"open sessions":    f.number("select count(*) from pg_stat_activity where state like 'idle in transaction%' and query like '%preview_query%'"),
		"registered views": f.number("select count(*) from tinydevcrm.matviews where relation::text like '%_query_preview%'"),
	} {
		if count != 0 {
			t.Errorf("%d %s are left", count, name)
		}
	}
}

func TestPreviewIsShort(t *testing.T) {
	f := newFixture(t)
	got := decode[struct{ Rows [][]*string }](t, f.send(post("/matviews/preview",
		"query", "select n, repeat('é', 1000) as long from generate_series(1, 1000) as n")), 200)
	if len(got.Rows) != 10 || *got.Rows[9][0] != "10" {
		t.Fatalf("it has %d rows", len(got.Rows))
	}
	// One more than the page shows, so that the page says that there are more.
	if count := utf8.RuneCountInString(*got.Rows[0][1]); count != 201 {
		t.Errorf("a long value has %d characters", count)
	}
	page := f.follow(post("/matviews/preview", "query", "select repeat('é', 1000) as long"))
	if page.status != 200 || !strings.Contains(page.body, "<td>"+strings.Repeat("é", 200)+"…</td>") {
		t.Errorf("the page does not cut it: %s", page.body)
	}
}

// The position of an error is that in the query as it was sent, counted in characters from 1.
func TestPositionOfAnError(t *testing.T) {
	f := newFixture(t)
	f.exec("create table numbers (n integer)")
	f.exec(`create function broken() returns integer language plpgsql as $$ begin return (select nope from numbers); end $$`)

	tests := []struct {
		name, query string
		// at is the text at the position of the error; empty when there is no position.
		at string
	}{
		{"a column", "select nope from numbers", "nope"},
		{"a word", "select *\n  form numbers", "form"},
		{"after letters of several bytes", "select 'éß𝄞' as \"ö\", nope from numbers", "nope"},
		{"after blanks and lines", "\n\t  select n,\n  'é', nope\n  from numbers", "nope"},
		{"after a comment", "/* é */ -- 𝄞\nselect nope from numbers", "nope"},
		{"lines of a browser", "select n,\r\n  nope\r\n  from numbers", "nope"},
		{"a table", "select * from missing", "missing"},
		{"at the end", "select (1", ""},
		{"as it runs", "select 1 / 0 as n from (values (1)) as nope", ""},
		{"within a function", "select broken() as n", ""},
	}
	for _, test := range tests {
		for _, path := range []string{"/matviews/preview", "/matviews"} {
			t.Run(test.name+" at "+path, func(t *testing.T) {
				var answer struct {
					Error struct {
						Message, Detail string
						Position        int
					}
				}
				got := f.send(post(path, "name", "v", "query", test.query))
				if err := json.Unmarshal([]byte(got.body), &answer); err != nil || answer.Error.Message == "" {
					t.Fatalf("%d %s: %v", got.status, got.body, err)
				}
				position := answer.Error.Position
				want := 0
				if before, _, isIn := strings.Cut(test.query, test.at); test.at != "" && isIn {
					want = utf8.RuneCountInString(before) + 1
				} else if test.name == "at the end" {
					want = utf8.RuneCountInString(test.query) + 1
				}
				if position != want {
					t.Errorf("it is %d, want %d: %s", position, want, got.body)
				}
				if isThere := strings.Contains(got.body, `"position"`); isThere != (want > 0) {
					t.Errorf("there is a position or not: %s", got.body)
				}
			})
		}
	}
}

// A browser sends lines with a carriage return that its text field does not have.
func TestPositionInATextField(t *testing.T) {
	f := newFixture(t)
	f.exec("create table numbers (n integer)")
	f.send(get("/views/new").fromBrowser()) // from now on, the browser keeps cookies
	const query = "select n,\r\n\r\n  nope\r\n  from numbers"
	for _, path := range []string{"/matviews/preview", "/matviews"} {
		page := f.follow(post(path, "name", "v", "query", query))
		want := fmt.Sprintf(`data-position="%d"`, strings.Index(strings.ReplaceAll(query, "\r\n", "\n"), "nope")+1)
		if problem := problemOf(t, page.body); !strings.Contains(problem, want) {
			t.Errorf("%s: the problem lacks %s: %.200s", path, want, problem)
		}
	}
}
