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

// fillLists creates many tables, views and subscriptions: x01 to x60 of each, the last one newest, and some
// older ones with names that a search could misread.
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

// listed returns the entries of a list of a page, and whether the page says that there are more.
func listed(t *testing.T, page, list string) (names []string, hasMore bool) {
	t.Helper()
	var part, item, more string
	switch list {
	case "tables":
		_, part, _ = strings.Cut(page, `<nav aria-label="Tables">`)
		part, _, _ = strings.Cut(part, `</nav>`)
		item, more = `<li><a [^>]*>([^<]*)</a>`, "There are more: find them"
	case "matviews":
		_, part, _ = strings.Cut(page, `<div id="matviews-list">`)
		part, _, _ = strings.Cut(part, `</div>`+"\n"+`<div class="chosen"`)
		part, _, _ = strings.Cut(part, `<div id="subscriptions-list">`)
		item, more = `<tr data-relation="([^"]*)"`, "There are more: find them"
	case "subscriptions":
		_, part, _ = strings.Cut(page, `<div id="subscriptions-list">`)
		item, more = `<tr data-subscription="([^"]*)"`, "There are more: see tinydevcrm.subscription_status"
	}
	for _, found := range regexp.MustCompile(item).FindAllStringSubmatch(part, -1) {
		names = append(names, html.UnescapeString(found[1]))
	}
	return names, strings.Contains(part, more)
}

// open gets the page with a selection.
func (f *fixture) open(status int, pairs ...string) string {
	f.t.Helper()
	values := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		values.Set(pairs[i], pairs[i+1])
	}
	got := f.send(get("/?" + values.Encode()))
	if got.status != status {
		f.t.Fatalf("the page with %v: status %d, want %d: %s", pairs, got.status, status, got.body)
	}
	return got.body
}

func TestLists(t *testing.T) {
	f := newFixture(t)
	f.fillLists()

	// The newest ones are listed, as many as fit, whatever else is in the database.
	page := f.open(200, "tables", f.schema, "matviews", f.schema)
	for list, want := range map[string]struct {
		count       int
		first, last string
	}{
		"tables":        {20, "t60", "t41"},
		"matviews":      {20, "v60", "v41"},
		"subscriptions": {50, f.schema + " s01", f.schema + " s50"},
	} {
		names, hasMore := listed(t, page, list)
		if len(names) != want.count || !hasMore {
			t.Errorf("%d %s are listed, and more: %t", len(names), list, hasMore)
			continue
		}
		if names[0] != want.first || names[len(names)-1] != want.last {
			t.Errorf("the %s are %v", list, names)
		}
	}
	for _, list := range []string{"tables", "matviews"} {
		plain := f.open(200)
		if names, hasMore := listed(t, plain, list); len(names) != 20 || !hasMore {
			t.Errorf("%d %s are listed at first, and more: %t", len(names), list, hasMore)
		}
		if !strings.Contains(plain, `id="`+list+`-search"`) {
			t.Errorf("there is no search for %s", list)
		}
	}

	// The parts for open pages have the same entries as the lists, also for a search.
	news := f.send(get("/news?" + url.Values{"matviews": {f.schema}, "matview": {"v01"}}.Encode())).body
	for _, list := range []string{"matviews", "subscriptions"} {
		onPage, _ := listed(t, page, list)
		if names, hasMore := listed(t, news, list); !slices.Equal(names, onPage) || !hasMore {
			t.Errorf("the news has these %s, and more: %t: %v", list, hasMore, names)
		}
	}
	for _, other := range []string{"<section", `id="feed"`, `aria-label="Tables"`, `action="/matviews`} {
		if strings.Contains(news, other) {
			t.Errorf("the news has %s", other)
		}
	}
	found := f.send(get("/news?" + url.Values{"matviews": {f.schema + ".v0"}}.Encode())).body
	if names, hasMore := listed(t, found, "matviews"); len(names) != 9 || hasMore {
		t.Errorf("the news of a search has %v, and more: %t", names, hasMore)
	}
}

func TestSearches(t *testing.T) {
	f := newFixture(t)
	f.fillLists()

	tests := []struct {
		part string
		// want is what follows "table " or "view ", or the number of entries when there are many.
		want []string
	}{
		{"50%_", []string{"50%_off"}},
		{"50xx", []string{"50xxoff"}},
		{"%_OFF", []string{"50%_off"}},
		{`y "x"`, []string{`say "x"`}},
		{`"X"`, []string{`say "x"`}},
		{"o'n", []string{"O'Neil"}},
		{"GRÖßE", []string{"Größe"}},
		{`k\s`, []string{`back\slash`}},
		{"&b=c#", []string{"a&b=c#d"}},
		{"% off", nil},
		{"<b>", nil},
	}
	for _, list := range []struct{ name, prefix, empty string }{
		{"tables", "table ", "No table has"}, {"matviews", "view ", "No view has"},
	} {
		for _, test := range tests {
			t.Run(list.name+" "+test.part, func(t *testing.T) {
				page := f.open(200, list.name, test.part)
				names, hasMore := listed(t, page, list.name)
				var want []string
				for _, name := range test.want {
					want = append(want, `"`+strings.ReplaceAll(list.prefix+name, `"`, `""`)+`"`)
				}
				if !slices.Equal(names, want) || hasMore {
					t.Errorf("it finds %v, want %v; and more: %t", names, want, hasMore)
				}
				if want == nil && !strings.Contains(html.UnescapeString(page), list.empty+" “"+test.part+"”") {
					t.Errorf("the page does not say that nothing is found")
				}
				field := fmt.Sprintf(`<input id="%s-search" name="%[1]s" type="search" value="%s"`, list.name, html.EscapeString(test.part))
				if !strings.Contains(page, field) {
					t.Errorf("the page does not keep %s", field)
				}
			})
		}
		// Also by a part of the schema.
		if names, hasMore := listed(t, f.open(200, list.name, f.schema[3:]+"."), list.name); len(names) != 20 || !hasMore {
			t.Errorf("by the schema: %v, and more: %t", names, hasMore)
		}
	}
	if names, _ := listed(t, f.open(200, "tables", f.schema+".T1"), "tables"); len(names) != 10 || names[0] != "t19" {
		t.Errorf("the tables of T1 are %v", names)
	}
	if names, _ := listed(t, f.open(200, "matviews", f.schema+".V1"), "matviews"); len(names) != 10 || names[0] != "v19" {
		t.Errorf("the views of V1 are %v", names)
	}
}

// The selected one is shown, whether or not the list has it.
func TestChosenBeyondTheList(t *testing.T) {
	f := newFixture(t)
	f.fillLists()

	for _, test := range []struct{ name, asked, title string }{
		{"table", f.schema + ".t01", `aria-label="First rows of t01"`},
		{"table", f.schema + ".t40", `aria-label="First rows of t40"`},
		{"table", f.schema + `."table say ""x"""`, `aria-label="First rows of &#34;table say &#34;&#34;x&#34;&#34;&#34;"`},
		{"table", f.schema + `.table say "x"`, `aria-label="First rows of &#34;table say &#34;&#34;x&#34;&#34;&#34;"`},
		{"table", f.schema + ".t60", `aria-label="First rows of t60"`},
		{"matview", "v01", `<h3 id="chosen-title">v01</h3>`},
		{"matview", "v40", `<h3 id="chosen-title">v40</h3>`},
		{"matview", f.schema + ".v02", `<h3 id="chosen-title">v02</h3>`},
		{"matview", `"view say ""x"""`, `<h3 id="chosen-title">&#34;view say &#34;&#34;x&#34;&#34;&#34;</h3>`},
		{"matview", "v60", `<h3 id="chosen-title">v60</h3>`},
	} {
		for _, part := range []string{"", f.schema, "nothing like it"} {
			list := test.name + "s"
			page := f.open(200, test.name, test.asked, list, part)
			if !strings.Contains(page, test.title) {
				t.Errorf("%s %s is not shown among those of %q", test.name, test.asked, part)
			}
			names, hasMore := listed(t, page, list)
			if want := map[bool]int{true: 0, false: 20}[part == "nothing like it"]; len(names) != want || hasMore != (want > 0) {
				t.Errorf("%s %s among those of %q: %v are listed, and more: %t", test.name, test.asked, part, names, hasMore)
			}
		}
	}
	if name := f.schema + " s60"; !strings.Contains(f.open(200, "subscription", name), `<h3 id="subscription-title">`+name+`</h3>`) {
		t.Error("a subscription beyond the list is not shown")
	}

	for _, test := range []struct{ name, asked, step, says string }{
		{"table", f.schema + ".t61", "tables", "there is no imported table"},
		{"table", "t01", "tables", "there is no imported table"},
		{"table", f.schema + ".v01", "tables", "there is no imported table"},
		{"table", `<b>"`, "tables", "there is no imported table"},
		{"matview", "v61", "schedule", "there is no watched materialized view"},
		{"matview", f.schema + ".t01", "schedule", "there is no watched materialized view"},
		{"matview", "<b>; drop table t01", "schedule", "there is no watched materialized view"},
	} {
		page := f.open(404, test.name, test.asked)
		_, section, _ := strings.Cut(page, `<section id="`+test.step+`"`)
		section, _, _ = strings.Cut(section, "</section>")
		if problem := html.UnescapeString(problemOf(t, section)); !strings.Contains(problem, test.says+" "+test.asked) {
			t.Errorf("%s %s: the step says %.200s", test.name, test.asked, problem)
		}
		if names, _ := listed(t, page, test.name+"s"); len(names) != 20 {
			t.Errorf("%s %s: the list has %v", test.name, test.asked, names)
		}
	}
}

// A search keeps the whole selection except what it searches for.
func TestSearchesKeepWhatIsChosen(t *testing.T) {
	f := newFixture(t)
	f.fillLists()
	chosen := map[string]string{
		"table": f.schema + ".t01", "tables": f.schema, "matview": "v01", "matviews": f.schema,
		"subscription": f.schema + " s01", "of": f.schema + ".v01", "outcome": "failed",
	}
	var pairs []string
	for name, value := range chosen {
		pairs = append(pairs, name, value)
	}
	page := f.open(200, pairs...)

	for _, test := range []struct{ mark, looksFor, list string }{
		{`id="tables-search"`, "table", "tables"},
		{`id="matviews-search"`, "matview", "matviews"},
		{`id="feed-of"`, "of", "outcome"},
	} {
		form := formOf(t, page, test.mark)
		for name, value := range chosen {
			hidden := fmt.Sprintf(`<input type="hidden" name="%s" value="%s">`, name, html.EscapeString(value))
			isSearched := name == test.looksFor || name == test.list
			if isThere := strings.Contains(form, hidden); isThere == isSearched {
				t.Errorf("the form of %s has %s: %t", test.mark, hidden, isThere)
			}
		}
	}
}
