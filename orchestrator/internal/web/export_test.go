package web

import (
	"net/http"
	"time"
)

// HandlerWithHeartbeat is Handler with a heartbeat that a test can wait for.
func HandlerWithHeartbeat(config Config, heartbeat time.Duration) http.Handler {
	return newHandler(config, heartbeat)
}
