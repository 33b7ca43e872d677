package web

import (
	"context"
	"fmt"
	"math"
	"strings"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/words"
)

const (
	// chartedRefreshes is how many refreshes a chart shows, each barWidth wide.
	chartedRefreshes = 40
	barWidth         = 4
	chartHeight      = 32
)

// A chart shows the last refreshes of a view, oldest first: a bar for the number of rows, a full-height bar for
// a failure, and a line for the duration.
type chart struct {
	// Rows, Failures and Durations are paths of SVG.
	Rows, Failures, Durations string
	Label                     string
}

type refresh struct {
	matviewID  int64
	isFailed   bool
	rowCount   int64
	durationMS float64
}

func (r *refresh) fields() []any { return []any{&r.matviewID, &r.isFailed, &r.rowCount, &r.durationMS} }

// readCharts reads the charts of these views.
func (s *server) readCharts(ctx context.Context, matviews []matview) error {
	ids := make([]int64, len(matviews))
	for i, matview := range matviews {
		ids[i] = matview.ID
	}
	found, err := db.Collect(ctx, s.pool(ctx), "read the last refreshes", (*refresh).fields, `
		select matview_id, outcome = 'failed', coalesce(row_count, 0), duration_ms
		  from tinydevcrm._list_recent_refreshes($1, $2)
		 order by matview_id, event_id`, pq.Array(ids), chartedRefreshes)
	if err != nil {
		return err
	}
	refreshes := map[int64][]refresh{}
	for _, next := range found {
		refreshes[next.matviewID] = append(refreshes[next.matviewID], next)
	}
	for i := range matviews {
		matviews[i].Chart = newChart(refreshes[matviews[i].ID])
	}
	return nil
}

func newChart(refreshes []refresh) chart {
	var drawn chart
	if len(refreshes) == 0 {
		return drawn
	}
	var failed int
	var most int64
	var longest float64
	for _, refresh := range refreshes {
		most, longest = max(most, refresh.rowCount), max(longest, refresh.durationMS)
		if refresh.isFailed {
			failed++
		}
	}

	var rows, failures, durations strings.Builder
	for i, refresh := range refreshes {
		// The newest at the right.
		x := (chartedRefreshes-len(refreshes)+i)*barWidth + barWidth/2
		if refresh.isFailed {
			fmt.Fprintf(&failures, "M%d %dV0", x, chartHeight)
		} else {
			// A refresh without rows gets a visible bar too.
			fmt.Fprintf(&rows, "M%d %dV%d", x, chartHeight, chartHeight-max(1, scale(float64(refresh.rowCount), float64(most))))
		}
		step := 'L'
		if i == 0 {
			step = 'M'
		}
		fmt.Fprintf(&durations, "%c%d %d", step, x, chartHeight-1-scale(refresh.durationMS, longest)*9/10)
	}
	drawn.Rows, drawn.Failures, drawn.Durations = rows.String(), failures.String(), durations.String()
	drawn.Label = fmt.Sprintf("last refreshes: %d, failed: %d, up to %s, up to %s",
		len(refreshes), failed, words.Count(most, "row"), words.Milliseconds(longest))
	return drawn
}

// scale returns the height of a value, where the greatest value has the full height.
func scale(value, greatest float64) int {
	if greatest <= 0 {
		return 0
	}
	return int(math.Round(value / greatest * chartHeight))
}
