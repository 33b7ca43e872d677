package web_test

import (
	"context"
	"database/sql"
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web"
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

// The result of a button is shown once, by the page after it, to the user who pressed it.
func TestResultIsShownToItsUser(t *testing.T) {
	f := newFixture(t)
	config := f.config()
	config.Login = func(context.Context, string, string, string) (*sql.DB, func(), error) { return f.pool, func() {}, nil }
	f.server.Config.Handler = web.Handler(config)
	as := func(user string, request request) request {
		return withHeader(request.fromBrowser(), "Authorization", map[string]string{
			"ann": "Basic YW5uOng=", "eve": "Basic ZXZlOng=",
		}[user])
	}

	made := f.send(as("ann", post("/sample")))
	for _, want := range []string{"HttpOnly", "SameSite=Strict", "Max-Age="} {
		if cookie := made.header.Get("Set-Cookie"); !strings.Contains(cookie, want) {
			t.Errorf("the cookie is %s, want it with %s", cookie, want)
		}
	}
	kept := maps.Clone(f.cookies)
	for _, test := range []struct {
		who, path string
		isShown   bool
	}{
		{"eve", pathOf(made), false},
		{"ann", "/events", false},
		{"ann", pathOf(made), true},
		{"ann", pathOf(made), false},
	} {
		if test.who == "eve" {
			f.cookies = maps.Clone(kept)
		}
		page := f.send(as(test.who, get(test.path)))
		if strings.Contains(page.body, "are created.") != test.isShown || page.status != http.StatusOK {
			t.Errorf("%s on %s: %d, want it shown: %v", test.who, test.path, page.status, test.isShown)
		}
		if test.isShown && page.header.Get("Cache-Control") != "no-store" {
			t.Errorf("a browser may keep it: %s", page.header.Get("Cache-Control"))
		}
		if test.who == "eve" {
			f.cookies = maps.Clone(kept)
		}
	}
	if got := f.send(withHeader(post("/sample"), "Authorization", "Basic YW5uOng=")); got.header.Get("Set-Cookie") != "" {
		t.Errorf("a program gets a cookie: %v", got.header)
	}
}
