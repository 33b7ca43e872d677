package kit_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/kit"
)

func TestBack(t *testing.T) {
	for back, want := range map[string]string{
		"":                        "/views/v",
		"/":                       "/",
		"/views?search=a+b":       "/views?search=a+b",
		"/views#rows":             "/views",
		"//evil.example/":         "/views/v",
		`/\evil.example`:          "/%5Cevil.example",
		"https://evil.example/":   "/views/v",
		"javascript:alert(1)":     "/views/v",
		"views":                   "/views/v",
		"/%2Fevil.example":        "/views/v",
		"/views/v\r\nLocation: x": "/views/v",
	} {
		if got := kit.BackOf(url.Values{"back": {back}}, "/views/v"); got != want {
			t.Errorf("back to %q goes to %q, want %q", back, got, want)
		}
	}
}

func TestList(t *testing.T) {
	address, _ := url.Parse("/views?search=a%26b&sort=-rows&page=3")
	list := kit.ListOf(address, 10, "name", "rows")
	if list.Search != "a&b" || list.Sort != "rows" || !list.IsDescending || list.Offset() != 20 || list.Limit() != 11 {
		t.Errorf("the list is %+v", list)
	}
	shown := kit.Cut(&list, make([]int, 11))
	if len(shown) != 10 || list.Next() != "/views?page=4&search=a%26b&sort=-rows" || list.Previous() != "/views?page=2&search=a%26b&sort=-rows" {
		t.Errorf("%d entries, next %s, previous %s", len(shown), list.Next(), list.Previous())
	}
	if shown := kit.Cut(&list, make([]int, 10)); len(shown) != 10 || list.Next() != "" {
		t.Errorf("the last page has %d entries, next %s", len(shown), list.Next())
	}
	for column, want := range map[string]kit.SortHead{
		"rows": {Label: "x", URL: "/views?search=a%26b&sort=rows", Order: "descending"},
		"name": {Label: "x", URL: "/views?search=a%26b&sort=name"},
	} {
		if got := list.Head(column, "x"); got != want {
			t.Errorf("the head of %s is %+v", column, got)
		}
	}
	if list := kit.ListOf(&url.URL{RawQuery: "sort=nope&page=-1"}, 10, "name"); list.Sort != "" || list.Number != 1 {
		t.Errorf("nonsense is %+v", list)
	}
}

func newSite() *kit.Site { return kit.New(kit.Options{Logger: slog.New(slog.DiscardHandler)}) }

// A browser that sends these cookies and gets those that are set.
func visit(t *testing.T, site *kit.Site, address string, cookies []*http.Cookie) (*kit.Flash, []*http.Cookie) {
	t.Helper()
	r := httptest.NewRequest("GET", address, nil)
	for _, cookie := range cookies {
		r.AddCookie(cookie)
	}
	w := httptest.NewRecorder()
	found := site.TakeFlash(w, r)
	for _, set := range w.Result().Cookies() {
		cookies = slices.DeleteFunc(slices.Clone(cookies), func(old *http.Cookie) bool { return old.Name == set.Name })
	}
	return found, cookies
}

func leave(site *kit.Site, to string, left kit.Flash) []*http.Cookie {
	w := httptest.NewRecorder()
	site.LeaveFlash(w, httptest.NewRequest("POST", "/x", nil), to, left)
	return w.Result().Cookies()
}

func TestFlash(t *testing.T) {
	site := newSite()
	cookies := leave(site, "/views/v?x=1#part", kit.Flash{Done: "pause"})
	found, cookies := visit(t, site, "/views", cookies)
	if found != nil {
		t.Error("another page shows it")
	}
	found, cookies = visit(t, site, "/views/v?x=1", cookies)
	if found == nil || found.Done != "pause" {
		t.Errorf("the page shows %+v", found)
	}
	if found, _ = visit(t, site, "/views/v?x=1", cookies); found != nil {
		t.Errorf("a reload shows %+v", found)
	}

	// A secret is there after a reload too.
	cookies = leave(site, "/s", kit.Flash{Done: "create", HasSecret: true})
	for range 2 {
		if found, cookies = visit(t, site, "/s", cookies); found == nil || found.Done != "create" {
			t.Errorf("with a secret the page shows %+v", found)
		}
	}

	// Another orchestrator does not know the result, and says so.
	if found, _ = visit(t, newSite(), "/s", cookies); found == nil || !found.IsLost {
		t.Errorf("another orchestrator shows %+v", found)
	}
}

// What one user leaves does not fill the memory.
func TestFlashesAreBounded(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	for what, large := range map[string]kit.Flash{
		"input":        {Problem: &db.Problem{}, Form: url.Values{"query": {long}}},
		"an answer":    {Made: map[string]any{"rows": []any{map[string]any{"text": long}}}},
		"an error":     {Problem: &db.Problem{Message: long}},
		"a query":      {Problem: &db.Problem{Query: long}},
		"another text": {Made: map[string]any{"secret": long}},
	} {
		site := newSite()
		first := leave(site, "/s", kit.Flash{Done: "first"})
		var last []*http.Cookie
		for range 20 {
			last = leave(site, "/s", large)
		}
		if found, _ := visit(t, site, "/s", first); found == nil || !found.IsLost {
			t.Errorf("the first is kept beside 20 MB of %s: %+v", what, found)
		}
		if found, _ := visit(t, site, "/s", last); found == nil || found.IsLost {
			t.Errorf("the last is not kept: %s", what)
		}
	}
}

func TestPositionIsInTheQuery(t *testing.T) {
	const prefix = "create materialized view v as "
	tests := []struct {
		name             string
		query, statement string
		position, want   int
	}{
		{"the query alone", "select nope", "select nope", 8, 8},
		{"within a statement", "select nope", prefix + "select nope", len(prefix) + 8, 8},
		{"after letters of several bytes", "select 'éß𝄞', nope", "select 'éß𝄞', nope", 15, 15},
		{"in a statement with such letters before", "select nope", `create view "é𝄞" as select nope`, 28, 8},
		{"at the end of the query", "select", prefix + "select", len(prefix) + 7, 7},
		{"in the statement, before the query", "select nope", prefix + "select nope", 8, 0},
		{"just before the query", "select nope", prefix + "select nope", len(prefix), 0},
		{"another statement", "select nope", "select other", 8, 0},
		{"the query is not its end", "select nope", prefix + "select nope with no data", len(prefix) + 8, 0},
		{"no query", "", "select nope", 8, 0},
		{"no position", "select nope", "", 0, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := kit.PlaceIn(test.query, db.Problem{Query: test.statement, Position: test.position}).Position; got != test.want {
				t.Errorf("position %d of %q is %d of %q, want %d", test.position, test.statement, got, test.query, test.want)
			}
		})
	}
}
