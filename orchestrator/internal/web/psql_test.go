package web_test

import (
	"net/http"
	"strings"
	"testing"
)

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
	page := f.send(get("/events?of=seen").fromBrowser()).body
	if !strings.Contains(page, `name="of" value="`+f.schema+`.seen"`) || strings.Count(page, `<li class="refreshed"`) != 1 {
		t.Errorf("the feed is not that of the one view: %s", page)
	}
	if page := f.send(get("/events?of=none").fromBrowser()).body; !strings.Contains(page, "No such events.") {
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
	if page := f.send(get("/upload").fromBrowser()).body; !strings.Contains(page, `name="distribute_by"`) {
		t.Error("the form has no such field")
	}
}
