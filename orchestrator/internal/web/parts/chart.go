package parts

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/kit"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/words"
)

const (
	// chartedRefreshes is how many refreshes a chart shows, each barWidth wide.
	chartedRefreshes = 40
	barWidth         = 4
	chartHeight      = 32
)

// A Chart shows the last refreshes of a view, oldest first: a bar for the number of rows, a full-height bar for
// a failure, and a line for the duration.
type Chart struct {
	// Rows, Failures, Durations and Values are paths of SVG. Rows is empty when there are Values.
	Rows, Failures, Durations, Values string
	Label                             string
	// Value is the newest of the values; empty for a view that is not one number.
	Value string
}

// A Refresh is one that a chart shows.
type Refresh struct {
	MatviewID  int64
	IsFailed   bool
	RowCount   int64
	DurationMS float64
	// Value is the only number of the only row, when the event carries it.
	Value sql.Null[float64]
}

func (r *Refresh) fields() []any {
	return []any{&r.MatviewID, &r.IsFailed, &r.RowCount, &r.DurationMS, &r.Value}
}

// ReadCharts reads the charts of these views, by their ids.
func ReadCharts(ctx context.Context, from db.Querier, ids []int64) (map[int64]Chart, error) {
	found, err := db.Collect(ctx, from, "read the last refreshes", (*Refresh).fields, `
		select matview_id, outcome = 'failed', coalesce(row_count, 0), duration_ms, value
		  from tinydevcrm._list_recent_refreshes($1, $2)
		 order by matview_id, event_id`, pq.Array(ids), chartedRefreshes)
	if err != nil {
		return nil, err
	}
	refreshes := map[int64][]Refresh{}
	for _, next := range found {
		refreshes[next.MatviewID] = append(refreshes[next.MatviewID], next)
	}
	charts := map[int64]Chart{}
	for id, of := range refreshes {
		charts[id] = NewChart(of)
	}
	return charts, nil
}

// NewChart draws refreshes, oldest first.
func NewChart(refreshes []Refresh) Chart {
	var drawn Chart
	if len(refreshes) == 0 {
		return drawn
	}
	var failed int
	var most int64
	var longest float64
	for _, refresh := range refreshes {
		most, longest = max(most, refresh.RowCount), max(longest, refresh.DurationMS)
		if refresh.IsFailed {
			failed++
		}
	}

	var rows, failures, durations strings.Builder
	for i, refresh := range refreshes {
		// The newest at the right.
		x := (chartedRefreshes-len(refreshes)+i)*barWidth + barWidth/2
		if refresh.IsFailed {
			fmt.Fprintf(&failures, "M%d %dV0", x, chartHeight)
		} else {
			// A refresh without rows gets a visible bar too.
			fmt.Fprintf(&rows, "M%d %dV%d", x, chartHeight, chartHeight-max(1, scale(float64(refresh.RowCount), float64(most))))
		}
		step := 'L'
		if i == 0 {
			step = 'M'
		}
		fmt.Fprintf(&durations, "%c%d %d", step, x, chartHeight-1-scale(refresh.DurationMS, longest)*9/10)
	}
	drawn.Rows, drawn.Failures, drawn.Durations = rows.String(), failures.String(), durations.String()
	drawn.drawValues(refreshes)
	what := "up to " + kit.Count(most, "row")
	if drawn.Value != "" {
		what = "last value " + drawn.Value
	}
	drawn.Label = fmt.Sprintf("last refreshes: %d, failed: %d, %s, up to %s",
		len(refreshes), failed, what, words.Milliseconds(longest))
	return drawn
}

// drawValues draws the value of a view that is one number as a line from zero. A refresh that did not notify carries no
// value: the line keeps the last one.
func (c *Chart) drawValues(refreshes []Refresh) {
	isOne := func(next Refresh) bool { return next.IsFailed || next.RowCount == 1 }
	first := slices.IndexFunc(refreshes, func(next Refresh) bool { return next.Value.Valid })
	if first < 0 || slices.ContainsFunc(refreshes, func(next Refresh) bool { return !isOne(next) }) {
		return
	}
	least, greatest := 0.0, 0.0
	for _, next := range refreshes {
		least, greatest = min(least, next.Value.V), max(greatest, next.Value.V)
	}
	var line strings.Builder
	last := 0.0
	step := 'M'
	for i, next := range refreshes[first:] {
		if next.IsFailed {
			continue
		}
		if next.Value.Valid {
			last = next.Value.V
		}
		x := (chartedRefreshes-len(refreshes)+first+i)*barWidth + barWidth/2
		fmt.Fprintf(&line, "%c%d %d", step, x, chartHeight-1-scale(last-least, greatest-least)*15/16)
		step = 'L'
	}
	c.Values, c.Rows = line.String(), ""
	c.Value = strconv.FormatFloat(last, 'f', -1, 64)
}

// scale returns the height of a value, where the greatest value has the full height.
func scale(value, greatest float64) int {
	if greatest <= 0 {
		return 0
	}
	return int(math.Round(value / greatest * chartHeight))
}
