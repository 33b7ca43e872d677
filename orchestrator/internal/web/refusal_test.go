package web_test

import (
	"net/http"
	"strings"
	"testing"
)

// A form with an error: a browser is redirected to the page of the form, which shows the error once.
func TestRefusedForm(t *testing.T) {
	f := newFixture(t)
	f.importSample()
	refused := post("/tables/rename", "relation", f.schema+".sample", "name", "")

	if got := f.send(refused.fromBrowser()); got.status != http.StatusBadRequest || !strings.Contains(got.body, "is missing or empty") {
		t.Errorf("a browser without cookies: %d %s", got.status, got.body)
	}
	f.send(get("/tables").fromBrowser())
	got := f.send(refused.fromBrowser())
	if got.status != http.StatusSeeOther || got.header.Get("Location") != "/tables/"+f.schema+".sample#rename" {
		t.Fatalf("a browser with cookies: %d to %s", got.status, got.header.Get("Location"))
	}
	for _, isShown := range []bool{true, false} {
		page := f.send(get(pathOf(got)).fromBrowser())
		if strings.Contains(page.body, "is missing or empty") != isShown || page.status != http.StatusOK {
			t.Errorf("is the error shown: want %v: %d %s", isShown, page.status, page.body)
		}
	}
	if got := f.send(refused); got.status != http.StatusBadRequest || got.header.Get("Location") != "" {
		t.Errorf("a program: %d %s", got.status, got.body)
	}
}
