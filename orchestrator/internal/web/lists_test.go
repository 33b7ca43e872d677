package web_test

import (
	"fmt"
	"html"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// fillLists creates many tables, views and subscriptions: x01 to x60 of each, and some whose names a search
// could misread.
func (f *fixture) fillLists() {
	f.t.Helper()
	for _, name := range []string{"50%_off", "50xxoff", `say "x"`, "O'Neil", "Größe", "back\\slash", "a&b=c#d"} {
		f.exec(fmt.Sprintf(`create table "table %[1]s" as select 1 as n`, strings.ReplaceAll(name, `"`, `""`)))
		f.exec(`insert into tinydevcrm.imports (source, mode, schema_name, table_name, row_count, finished_at)
		        values ('x.csv', 'create', $1, 'table ' || $2, 1, now())`, f.schema, name)
		f.exec(`select tinydevcrm.create_matview('view ' || $1, 'select 1 as n')`, name)
	}
	f.exec(`do $$ begin
	            for number in 1..60 loop
	                execute format('create table %I as select 1 as n', 't' || to_char(number, 'FM00'));
	            end loop;
	        end $$`)
	f.exec(`insert into tinydevcrm.imports (source, mode, schema_name, table_name, row_count, finished_at)
	        select 'x.csv', 'create', $1, 't' || to_char(number, 'FM00'), 1, now()
	          from generate_series(1, 60) as number
	         order by number`, f.schema)
	f.exec(`select tinydevcrm.create_matview('v' || to_char(number, 'FM00'), 'select 1 as n', 'always')
	          from generate_series(1, 60) as number`)
	f.exec(`select tinydevcrm.create_subscription($1 || ' s' || to_char(number, 'FM00'))
	          from generate_series(1, 60) as number`, f.schema)
}

// listed returns the names in the list of a page, and the URL of the next page.
func (f *fixture) listed(path string) (names []string, next string) {
	f.t.Helper()
	got := f.send(get(path).fromBrowser())
	if got.status != 200 {
		f.t.Fatalf("%s: %d %s", path, got.status, got.body)
	}
	_, main, _ := strings.Cut(got.body, "<main")
	for _, found := range regexp.MustCompile(`<th scope="row"[^>]*><a [^>]*><span class="name" title="([^"]*)">`).FindAllStringSubmatch(main, -1) {
		names = append(names, html.UnescapeString(found[1]))
	}
	if found := regexp.MustCompile(`<a href="([^"]*)" rel="next">`).FindStringSubmatch(main); found != nil {
		next = html.UnescapeString(found[1])
	}
	return names, next
}

// Each list has pages, which have all entries, each once.
func TestListsHavePages(t *testing.T) {
	f := newFixture(t)
	f.fillLists()
	for path, want := range map[string]int{
		"/tables?search=" + f.schema + ".t":            60 + 7,
		"/tables?sort=name&search=" + f.schema + ".t":  60 + 7,
		"/views?search=" + f.schema:                    60 + 7,
		"/views?sort=-name&search=" + f.schema:         60 + 7,
		"/subscriptions?search=" + f.schema:            60,
		"/subscriptions?sort=-name&search=" + f.schema: 60,
	} {
		var all []string
		for next := path; next != ""; {
			var names []string
			names, next = f.listed(next)
			if len(names) > 50 || len(names) == 0 || len(all) > 100 {
				t.Fatalf("%s: a page has %d names", path, len(names))
			}
			all = append(all, names...)
		}
		slices.Sort(all)
		if unique := slices.Compact(slices.Clone(all)); len(all) != want || len(unique) != want {
			t.Errorf("%s lists %d names, %d of them different, want %d", path, len(all), len(unique), want)
		}
	}
}

func TestSearches(t *testing.T) {
	f := newFixture(t)
	f.fillLists()
	for _, list := range []struct{ path, prefix, empty string }{
		{"/tables", "table ", "No table of yours has"}, {"/views", "view ", "No view has"},
	} {
		for part, want := range map[string]string{
			"50%_": "50%_off", "50xx": "50xxoff", "%_OFF": "50%_off", `y "x"`: `say "x"`, `"X"`: `say "x"`, "o'n": "O'Neil",
			"GRÖßE": "Größe", `k\s`: `back\slash`, "&b=c#": "a&b=c#d", "% off": "", "<b>": "",
		} {
			path := list.path + "?" + url.Values{"search": {part}}.Encode()
			names, next := f.listed(path)
			var wanted []string
			if want != "" {
				wanted = []string{`"` + strings.ReplaceAll(list.prefix+want, `"`, `""`) + `"`}
			}
			if !slices.Equal(names, wanted) || next != "" {
				t.Errorf("%s finds %v, want %v; and more: %q", path, names, wanted, next)
			}
			page := f.send(get(path).fromBrowser()).body
			if want == "" && !strings.Contains(html.UnescapeString(page), list.empty+" “"+part+"”") {
				t.Errorf("%s does not say that nothing is found", path)
			}
			if !strings.Contains(page, fmt.Sprintf(`name="search" type="search" value="%s"`, html.EscapeString(part))) {
				t.Errorf("%s does not keep what is searched for", path)
			}
			if found := f.send(get("/?" + url.Values{"search": {part}}.Encode()).fromBrowser()).body; want != "" &&
				!strings.Contains(html.UnescapeString(found), wanted[0]) {
				t.Errorf("the home finds no %s", wanted[0])
			}
		}
	}
}

// What is not there has a page that says so.
func TestWhatIsNotThere(t *testing.T) {
	f := newFixture(t)
	f.exec("create table t as select 1 as n")
	f.exec("select tinydevcrm.create_matview('v', 'select 1 as n')")
	for path, says := range map[string]string{
		"/tables/" + f.schema + ".nope":      "there is no table " + f.schema + ".nope of yours",
		"/tables/" + f.schema + ".v":         "there is no table " + f.schema + ".v of yours",
		"/tables/%3Cb%3E%22":                 `there is no table <b>" of yours`,
		"/views/" + f.schema + ".nope":       "is not watched",
		"/views/" + f.schema + ".t":          "is not watched",
		"/views/%3Cb%3E;%20drop%20table%20t": "is not watched",
		"/subscriptions/nope":                "there is no subscription nope of yours",
		"/events/1000000000":                 "there is no event",
		"/imports/1000000000":                "there is no import",
	} {
		got := f.send(get(path).fromBrowser())
		if said := html.UnescapeString(problemOf(t, got.body)); got.status != 404 || !strings.Contains(said, says) {
			t.Errorf("%s: %d %s", path, got.status, said)
		}
	}
}
