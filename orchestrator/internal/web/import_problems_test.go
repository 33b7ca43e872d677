package web_test

import (
	"fmt"
	"strings"
	"testing"
)

func TestImportProblemsAsCSV(t *testing.T) {
	f := newFixture(t)
	file := field{name: "file", file: "ragged.csv", value: "a,b\n1,2\n3\n\"4\"x,5\n6,7\n"}
	if got := f.send(form("POST", "/upload-file", field{name: "ragged", value: "reject"}, file)); got.status != 201 {
		t.Fatalf("upload: %d %s", got.status, got.body)
	}
	id := f.number("select max(id) from tinydevcrm.imports where schema_name = $1", f.schema)
	path := fmt.Sprintf("/imports/%d/problems.csv", id)
	want := "line,reason,line_text,is_rejected\n3,1 field instead of 2,3,true\n4,text after a closing quote,\"\"\"4\"\"x,5\",true\n"
	if got := f.send(get(path)); got.status != 200 || got.body != want {
		t.Errorf("got %d %s, want %s", got.status, got.body, want)
	}
	if page := f.send(get(fmt.Sprint("/imports/", id)).fromBrowser()); !strings.Contains(page.body, path) {
		t.Error("the page has no link to them")
	}
	for _, none := range []string{"/imports/0/problems.csv", "/imports/x/problems.csv"} {
		if got := f.send(get(none)); got.status != 404 || !strings.Contains(got.body, "TD001") {
			t.Errorf("%s: %d %s", none, got.status, got.body)
		}
	}
}

// The list of types offers each type and each form once.
func TestPreviewOffersEachTypeOnce(t *testing.T) {
	f := newFixture(t)
	file := field{name: "file", file: "new.csv", value: "n,d\n1,03/04/2026\n"}
	page := f.follow(form("POST", "/upload-file?dry_run=1", file)).body
	for _, option := range []string{"n=boolean", "n=date", "n=timestamp with time zone", "n=date D/M/Y", "d=date M/D/Y"} {
		if count := strings.Count(page, `<option value="`+option+`"`); count != 1 {
			t.Errorf("%s is offered %d times", option, count)
		}
	}
	for _, want := range []string{`title="03/04/2026"`, "column d could be date D/M/Y or date M/D/Y"} {
		if !strings.Contains(page, want) {
			t.Errorf("the preview lacks %s", want)
		}
	}
}
