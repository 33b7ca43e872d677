package web_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
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
