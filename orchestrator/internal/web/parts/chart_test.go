package parts_test

import (
	"database/sql"
	"strings"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/parts"
)

func TestChart(t *testing.T) {
	ok := func(rows int64, ms float64) parts.Refresh { return parts.Refresh{RowCount: rows, DurationMS: ms} }
	failed := func(ms float64) parts.Refresh { return parts.Refresh{IsFailed: true, DurationMS: ms} }
	many := make([]parts.Refresh, 40)
	for i := range many {
		many[i] = ok(int64(i), 1)
	}

	tests := []struct {
		name      string
		refreshes []parts.Refresh
		// rows, failures and durations are the paths.
		rows, failures, durations string
		label                     string
	}{
		{"none", nil, "", "", "", ""},
		{"one, at the right edge", []parts.Refresh{ok(3, 2)},
			"M158 32V0", "", "M158 3", "last refreshes: 1, failed: 0, up to 3 rows, up to 2 ms"},
		{"the greatest takes the whole height", []parts.Refresh{ok(1, 10), ok(4, 5)},
			"M154 32V24M158 32V0", "", "M154 3L158 17", "last refreshes: 2, failed: 0, up to 4 rows, up to 10 ms"},
		{"no rows are seen too", []parts.Refresh{ok(0, 1), ok(0, 1)},
			"M154 32V31M158 32V31", "", "M154 3L158 3", "last refreshes: 2, failed: 0, up to 0 rows, up to 1 ms"},
		{"few beside many are seen too", []parts.Refresh{ok(1, 1), ok(1_000_000, 1)},
			"M154 32V31M158 32V0", "", "M154 3L158 3", "last refreshes: 2, failed: 0, up to 1,000,000 rows, up to 1 ms"},
		{"no time at all", []parts.Refresh{ok(1, 0), ok(1, 0)},
			"M154 32V0M158 32V0", "", "M154 31L158 31", "last refreshes: 2, failed: 0, up to 1 row, up to less than 1 ms"},
		{"all failed", []parts.Refresh{failed(4), failed(8)},
			"", "M154 32V0M158 32V0", "M154 17L158 3", "last refreshes: 2, failed: 2, up to 0 rows, up to 8 ms"},
		{"one of them failed", []parts.Refresh{ok(2, 1), failed(1), ok(2, 1)},
			"M150 32V0M158 32V0", "M154 32V0", "M150 3L154 3L158 3", "last refreshes: 3, failed: 1, up to 2 rows, up to 1 ms"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			drawn := parts.NewChart(test.refreshes)
			for _, part := range []struct{ name, got, want string }{
				{"rows", drawn.Rows, test.rows},
				{"failures", drawn.Failures, test.failures},
				{"durations", drawn.Durations, test.durations},
				{"label", drawn.Label, test.label},
			} {
				if part.got != part.want {
					t.Errorf("%s: %q, want %q", part.name, part.got, part.want)
				}
			}
		})
	}

	value := func(number float64) parts.Refresh {
		return parts.Refresh{RowCount: 1, Value: sql.Null[float64]{V: number, Valid: true}}
	}
	for _, test := range []struct {
		name                string
		refreshes           []parts.Refresh
		values, rows, value string
	}{
		{"from zero", []parts.Refresh{value(2), value(4)}, "M154 16L158 1", "", "4"},
		{"below zero", []parts.Refresh{value(-1.5), value(1.5)}, "M154 31L158 1", "", "1.5"},
		{"one that did not notify keeps the value", []parts.Refresh{value(4), ok(1, 0)}, "M154 1L158 1", "", "4"},
		{"a failure has none", []parts.Refresh{value(4), failed(0), value(2)}, "M150 1L158 16", "", "2"},
		{"two rows are no value", []parts.Refresh{value(4), ok(2, 0)}, "", "M154 32V16M158 32V0", ""},
	} {
		drawn := parts.NewChart(test.refreshes)
		if drawn.Values != test.values || drawn.Rows != test.rows || drawn.Value != test.value {
			t.Errorf("%s: %q, rows %q, value %q", test.name, drawn.Values, drawn.Rows, drawn.Value)
		}
	}

	// When all refreshes that are read are drawn, they begin at the left edge.
	if drawn := parts.NewChart(many); !strings.HasPrefix(drawn.Rows, "M2 32V") || !strings.HasSuffix(drawn.Rows, "M158 32V0") {
		t.Errorf("forty are drawn as %q", drawn.Rows)
	}
}
