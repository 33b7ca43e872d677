package parts

import (
	"context"
	"fmt"
	"math"
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
	// Rows, Failures and Durations are paths of SVG.
	Rows, Failures, Durations string
	Label                     string
}

// A Refresh is one that a chart shows.
type Refresh struct {
	MatviewID  int64
	IsFailed   bool
	RowCount   int64
	DurationMS float64
}

func (r *Refresh) fields() []any { return []any{&r.MatviewID, &r.IsFailed, &r.RowCount, &r.DurationMS} }

// ReadCharts reads the charts of these views, by their ids.
func ReadCharts(ctx context.Context, from db.Querier, ids []int64) (map[int64]Chart, error) {
	found, err := db.Collect(ctx, from, "read the last refreshes", (*Refresh).fields, `
		select matview_id, outcome = 'failed', coalesce(row_count, 0), duration_ms
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
	drawn.Label = fmt.Sprintf("last refreshes: %d, failed: %d, up to %s, up to %s",
		len(refreshes), failed, kit.Count(most, "row"), words.Milliseconds(longest))
	return drawn
}

// scale returns the height of a value, where the greatest value has the full height.
func scale(value, greatest float64) int {
	if greatest <= 0 {
		return 0
	}
	return int(math.Round(value / greatest * chartHeight))
}
