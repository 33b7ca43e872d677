package web

import (
	"net/http"
	"net/url"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/kit"
)

// HandlerWithHeartbeat is Handler with a heartbeat that a test can wait for.
func HandlerWithHeartbeat(config Config, heartbeat time.Duration) http.Handler {
	return newHandler(config, heartbeat)
}

// HandlerWithSlow is Handler with another time that an upload may be slow.
func HandlerWithSlow(config Config, slow time.Duration) http.Handler {
	config.slow = slow
	return newHandler(config, heartbeat)
}

// PlaceIn is the position of an error in a query, given its position in a statement.
func PlaceIn(query, statement string, position int) int {
	return kit.PlaceIn(query, db.Problem{Query: statement, Position: position}).Position
}

// PageURL is the URL of the page with a selection, at a step.
func PageURL(values url.Values, step string) string { return pageURL(values, step) }

// Link is the URL of the page with one part of the selection changed.
func Link(chosen url.Values, step, name, value string) string {
	return page{Chosen: chosen}.Link(step, name, value)
}
