package web_test

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// No page names a resource elsewhere. Each file of a page may be kept forever by its tag, and all of them together are small.
func TestAssets(t *testing.T) {
	f := newFixture(t)
	f.send(post("/sample"))
	file := regexp.MustCompile(`/static/([a-z]+\.[a-z]+)\?v=[0-9a-f]+`)
	imported := regexp.MustCompile(`from './([a-z]+\.js)'`)
	elsewhere := regexp.MustCompile(`(src|href|action)="(https?:)?//`)
	for _, path := range f.screenPaths() {
		page := f.send(withHeader(get(path).fromBrowser(), "Accept-Encoding", "gzip"))
		total := len(page.body)
		page = f.send(get(path).fromBrowser())
		if elsewhere.MatchString(page.body) {
			t.Errorf("%s names a resource elsewhere", path)
		}
		names := map[string]bool{}
		for _, match := range file.FindAllStringSubmatch(page.body, -1) {
			names[match[1]] = true
			got := f.send(get(match[0]))
			if got.status != 200 || !strings.Contains(got.header.Get("Cache-Control"), "immutable") {
				t.Errorf("%s: status %d, %v", match[0], got.status, got.header)
			}
			for _, other := range imported.FindAllStringSubmatch(got.body, -1) {
				names[other[1]] = true
			}
		}
		for name := range names {
			got := f.send(withHeader(get("/static/"+name+"?v=old"), "Accept-Encoding", "gzip"))
			total += len(got.body)
			if got.status != 200 || got.header.Get("Cache-Control") != "no-cache" {
				t.Errorf("%s by an old tag: %d %v", name, got.status, got.header)
			}
			again := f.send(withHeader(get("/static/"+name), "If-None-Match", got.header.Get("ETag")))
			if again.status != http.StatusNotModified {
				t.Errorf("%s again: status %d", name, again.status)
			}
		}
		if limit := 30_000; total > limit {
			t.Errorf("%s takes %d bytes in all, want less than %d", path, total, limit)
		}
	}
}

// Each screen can be used by everyone, in each state, on wide and narrow screens, dark and light.
func TestAccessibilityOfEveryScreen(t *testing.T) {
	for _, state := range []struct {
		name    string
		prepare func(f *fixture)
	}{
		{"empty", func(*fixture) {}},
		{"full", func(f *fixture) { f.useForAWhile() }},
		{"away", func(f *fixture) { f.overLink().cut(true) }},
	} {
		t.Run(state.name, func(t *testing.T) {
			f := newFixtureIn(t, "shop")
			state.prepare(f)
			for name, path := range f.shopPaths() {
				t.Run(name, func(t *testing.T) {
					b := newBrowser(t)
					b.checkEveryLook(state.name+", "+name, f.server.URL+path)
					b.checkFits(name)
				})
			}
		})
	}
}

// shopPaths are the pages of all screens, by name, with what useForAWhile makes.
func (f *fixture) shopPaths() map[string]string {
	event := f.number("select coalesce(max(id), 1) from tinydevcrm.matview_refresh_events where matview = 'shop.big_orders'")
	imported := f.number("select coalesce(max(id), 1) from tinydevcrm.imports where schema_name = 'shop'")
	return map[string]string{
		"home":          "/",
		"search":        "/?search=orders",
		"upload":        "/upload",
		"imports":       "/imports",
		"import":        fmt.Sprintf("/imports/%d", imported),
		"tables":        "/tables",
		"table":         "/tables/shop.orders",
		"columns":       "/tables/shop.orders/columns",
		"sources":       "/sources",
		"source":        "/sources/orders",
		"new-source":    "/sources/new",
		"views":         "/views",
		"view":          "/views/shop.big_orders",
		"new-view":      "/views/new",
		"edit":          "/views/shop.big_orders/edit",
		"subscriptions": "/subscriptions",
		"subscription":  "/subscriptions/alerts",
		"events":        "/events",
		"event":         fmt.Sprintf("/events/%d", event),
	}
}

// checkFits checks that nothing is beyond the edge of a screen.
func (b *browser) checkFits(name string) {
	b.t.Helper()
	for _, width := range []int64{390, 1280, 1600} {
		b.do("resize", chromedp.EmulateViewport(width, 900))
		overflow := read(b, "measure", chromedp.Evaluate[int](
			`document.documentElement.scrollWidth - document.documentElement.clientWidth`))
		if overflow > 0 {
			b.t.Errorf("%s at %d pixels: %d are beyond the edge", name, width, overflow)
		}
		wide := read(b, "measure the cards", chromedp.Evaluate[string](`[...document.querySelectorAll('.cards :is(td, th)')].filter(cell =>
			cell.getBoundingClientRect().right > cell.parentElement.getBoundingClientRect().right + 1).map(cell => cell.textContent).join()`))
		if wide != "" {
			b.t.Errorf("%s at %d pixels: cells are wider than their card: %s", name, width, wide)
		}
	}
	b.do("back to a wide screen", chromedp.ResetViewport())
}

// On each page the first key leads past the navigation, and each further one to something that shows the focus.
func TestScreensByKeyboard(t *testing.T) {
	f := newFixtureIn(t, "shop")
	f.useForAWhile()
	for name, path := range f.shopPaths() {
		t.Run(name, func(t *testing.T) {
			b := newBrowser(t)
			b.do("open "+path, chromedp.Navigate(f.server.URL+path))
			b.do("press the tabulator", chromedp.KeyEvent(kb.Tab))
			if at := read(b, "look", chromedp.Evaluate[string](`document.activeElement.className`)); at != "skip" {
				t.Errorf("the first key leads to %q", at)
			}
			for range 15 {
				b.do("press the tabulator", chromedp.KeyEvent(kb.Tab))
				at := read(b, "look", chromedp.Evaluate[string](`document.activeElement === document.body ? '' :
					getComputedStyle(document.activeElement).outlineStyle + document.activeElement.outerHTML.slice(0, 100)`))
				if strings.HasPrefix(at, "none") {
					t.Errorf("nothing shows that this has the focus: %s", at)
				}
			}
		})
	}
}
