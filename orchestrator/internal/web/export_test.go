package web

import (
	"net/http"
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
	return newServer(config, heartbeat, slow).handler()
}

// PlaceIn is the position of an error in a query, given its position in a statement.
func PlaceIn(query, statement string, position int) int {
	return kit.PlaceIn(query, db.Problem{Query: statement, Position: position}).Position
}
