package web_test

import (
	"fmt"
	"strings"
	"testing"
)

// Postgres holds JSON that is nested more deeply than Go reads it.
func TestPageShowsEventsBesideNestedOnes(t *testing.T) {
	f := newFixture(t)
	f.exec("create table documents as select repeat('[', 10500) || repeat(']', 10500) as document")
	f.exec("select tinydevcrm.create_matview('nested', 'select document::json from documents', 'always')")
	f.exec("select tinydevcrm.create_matview('plain', 'select 1 as n', 'always')")
	nested, plain := f.refresh("nested"), f.refresh("plain")
	page := f.open(200)
	for _, id := range []int64{nested, plain} {
		if !strings.Contains(page, fmt.Sprintf(`data-id="%d"`, id)) {
			t.Errorf("the page lacks event %d", id)
		}
	}
	if !strings.Contains(page, "This event cannot be shown") {
		t.Error("the page does not say that it cannot show the nested event")
	}
}
