package web_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web"
)

// Each link passes on the current selection, but not the input of a form nor the message about what has been
// done.
func TestLinksKeepWhatIsChosen(t *testing.T) {
	all := url.Values{
		"table": {`s."a b"`}, "tables": {"50%"}, "matview": {`"v&w"`}, "matviews": {"v_"},
		"subscription": {"mine"}, "of": {"s.v"}, "outcome": {"failed"},
	}
	with := func(name, value string) url.Values {
		values := url.Values{}
		for key := range all {
			values.Set(key, all.Get(key))
		}
		values.Set(name, value)
		return values
	}

	tests := []struct {
		name        string
		chosen      url.Values
		parameter   string
		value, step string
		want        url.Values
	}{
		{"nothing chosen", nil, "table", "s.t", "tables", url.Values{"table": {"s.t"}}},
		{"another table", all, "table", `s."x#y"`, "tables", with("table", `s."x#y"`)},
		{"another view", all, "matview", "w", "schedule", with("matview", "w")},
		{"another subscription", all, "subscription", "a&b=c", "notify", with("subscription", "a&b=c")},
		{"older events", all, "before", "17", "events", with("before", "17")},
		{"not what is not chosen", url.Values{"table": {"s.t"}, "done": {"upload"}, "event": {"3"}, "before": {"4"}, "name": {"v"}},
			"table", "s.u", "tables", url.Values{"table": {"s.u"}}},
		{"not what is empty", url.Values{"table": {""}, "of": {""}}, "matview", "v", "schedule", url.Values{"matview": {"v"}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			before := test.chosen.Encode()
			link := web.Link(test.chosen, test.step, test.parameter, test.value)
			query, step, _ := strings.Cut(strings.TrimPrefix(link, "/?"), "#")
			if step != test.step {
				t.Errorf("%s leads to step %q, want %q", link, step, test.step)
			}
			values, err := url.ParseQuery(query)
			if err != nil || values.Encode() != test.want.Encode() {
				t.Errorf("%s chooses %v (%v), want %v", link, values, err, test.want)
			}
			if after := test.chosen.Encode(); after != before {
				t.Errorf("what is chosen was %s and has become %s", before, after)
			}
		})
	}

	if got, want := web.PageURL(url.Values{"table": {"s.t"}, "matview": {"v"}}, "tables"), "/?matview=v&table=s.t#tables"; got != want {
		t.Errorf("the page is %s, want %s", got, want)
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
			if got := web.PlaceIn(test.query, test.statement, test.position); got != test.want {
				t.Errorf("position %d of %q is %d of %q, want %d", test.position, test.statement, got, test.query, test.want)
			}
		})
	}
}
