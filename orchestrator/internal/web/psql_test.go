package web_test

import (
	"html"
	"net/http"
	"strings"
	"testing"
)

// The SQL that the page shows does what was done.
func TestPageShowsHowItWasImported(t *testing.T) {
	f := newFixture(t)
	tests := []struct {
		name, path, file, contents string
		want                       []string
	}{
		{"as usual", "", "plain.csv", "a,b\n1,2\n",
			[]string{`from 'plain.csv' with (format csv, header)`, `import_staging('staging', 'plain', mode => 'replace')`}},
		{"written otherwise", "?encoding=LATIN1&skip=2&delimiter=%3B&quote=%27", "odd.csv", "about\n\n'a';b\n1;'x'\n",
			[]string{`program 'tail -n +3 ''odd.csv'''`, `delimiter ';'`, `quote ''''`, `encoding 'LATIN1'`}},
		{"without quotes", "?quote=none", "inches.csv", "a,b\n5\",2\n", []string{`header, quote e'\x01')`}},
		{"without a header", "?header=no", "bare.csv", "1,2\n3,4\n", []string{`with (format csv)`}},
		{"by key", "?mode=upsert&key=a", "keyed.csv", "a,b\n1,2\n", []string{`mode => 'upsert', key => array['a']`}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := f.send(form("POST", "/upload-file"+test.path, field{name: "file", file: test.file, value: test.contents}))
			if got.status != http.StatusCreated {
				t.Fatalf("import: %d %s", got.status, got.body)
			}
			page := html.UnescapeString(f.send(get("/").fromBrowser()).body)
			_, shown, _ := strings.Cut(page, `\copy`)
			shown, _, _ = strings.Cut(shown, "</pre>")
			for _, want := range test.want {
				if !strings.Contains(shown, want) {
					t.Errorf("the page lacks %s: %s", want, shown)
				}
			}
		})
	}
}

func TestPreviewLeavesNothingInItsSession(t *testing.T) {
	f := newFixture(t)
	got := f.send(post("/matviews/preview", "query", "select pg_advisory_lock(7723)::text"))
	if got.status != http.StatusOK {
		t.Fatalf("%d: %s", got.status, got.body)
	}
	if held := f.number("select count(*) from pg_locks where locktype = 'advisory' and objid = 7723"); held != 0 {
		t.Error("a lock is left")
	}
}

func TestFeedOfAViewByItsShortName(t *testing.T) {
	f := newFixture(t)
	f.watch("seen", "select 1 as n")
	f.watch("other", "select 1 as n")
	f.refresh("other")
	f.refresh("seen")
	page := f.send(get("/?of=seen").fromBrowser()).body
	if !strings.Contains(page, `name="of" value="`+f.schema+`.seen"`) || strings.Count(page, `<li class="refreshed"`) != 1 {
		t.Errorf("the feed is not that of the one view: %s", page)
	}
	if page := f.send(get("/?of=none").fromBrowser()).body; !strings.Contains(page, "No such events.") {
		t.Errorf("the feed does not say that there are none of these: %s", page)
	}
}

// Without Citus, the form's distribution column is refused, with a hint.
func TestUploadDistributedWithoutCitus(t *testing.T) {
	f := newFixture(t)
	got := f.send(form("POST", "/upload-file", field{name: "distribute_by", value: "a"}, field{name: "file", file: "t.csv", value: "a\n1\n"}))
	if got.status != http.StatusServiceUnavailable || !strings.Contains(got.body, "TD010") || !strings.Contains(got.body, "create extension citus") {
		t.Errorf("%d: %s", got.status, got.body)
	}
	if page := f.send(get("/").fromBrowser()).body; !strings.Contains(page, `name="distribute_by"`) {
		t.Error("the form has no such field")
	}
}
