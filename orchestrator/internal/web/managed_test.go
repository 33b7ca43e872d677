package web_test

import (
	"strings"
	"testing"
)

// The screen of a view that files manage says so, and its editor warns that an edit is undone.
func TestViewsThatFilesManage(t *testing.T) {
	f := newFixture(t)
	f.exec("select tinydevcrm.create_matview('byhand', 'select 1 as n')")
	f.exec(`select tinydevcrm.apply_definitions('[{"kind": "view", "name": "filed", "definition": {"query": "select 1 as n"}}]')`)
	path := "/views/" + f.schema
	for page, want := range map[string]string{
		path + ".filed": "undone when they are applied again", path + ".filed/edit": "gives it their query again",
		path + ".byhand": "", path + ".byhand/edit": "",
	} {
		body := f.send(get(page).fromBrowser()).body
		if isThere := strings.Contains(body, `id="managed"`); isThere != (want != "") || !strings.Contains(body, want) {
			t.Errorf("%s says that files manage the view: %t, want %q", page, isThere, want)
		}
	}
	// Applied without it, it is managed no more.
	f.exec(`select tinydevcrm.apply_definitions('[]')`)
	if body := f.send(get(path + ".filed").fromBrowser()).body; strings.Contains(body, `id="managed"`) {
		t.Error("a view that is in no file is managed by files")
	}
}
