package web

import (
	"net/http"
	"net/url"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

// HandlerWithHeartbeat is Handler with a heartbeat that a test can wait for.
func HandlerWithHeartbeat(config Config, heartbeat time.Duration) http.Handler {
	return newHandler(config, heartbeat)
}

// HandlerWithSlow is Handler with another time that an upload may be slow.
func HandlerWithSlow(config Config, slow time.Duration) http.Handler {
	s := newServer(config, heartbeat)
	s.slow = slow
	return s.handler()
}

// A Refresh is one that a chart shows.
type Refresh struct {
	IsFailed   bool
	RowCount   int64
	DurationMS float64
}

// NewChart draws refreshes, oldest first.
func NewChart(refreshes ...Refresh) chart {
	drawn := make([]refresh, len(refreshes))
	for i, next := range refreshes {
		drawn[i] = refresh{isFailed: next.IsFailed, rowCount: next.RowCount, durationMS: next.DurationMS}
	}
	return newChart(drawn)
}

// PlaceIn is the position of an error in a query, given its position in a statement.
func PlaceIn(query, statement string, position int) int {
	return placeIn(query, db.Problem{Query: statement, Position: position}).Position
}

// PageURL is the URL of the page with a selection, at a step.
func PageURL(values url.Values, step string) string { return pageURL(values, step) }

// Link is the URL of the page with one part of the selection changed.
func Link(chosen url.Values, step, name, value string) string {
	return page{Chosen: chosen}.Link(step, name, value)
}
