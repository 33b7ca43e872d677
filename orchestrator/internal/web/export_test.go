package web

import (
	"net/http"
	"time"
)

// HandlerWithHeartbeat is Handler with a heartbeat that a test can wait for.
func HandlerWithHeartbeat(config Config, heartbeat time.Duration) http.Handler {
	return newHandler(config, heartbeat)
}

// HandlerWithSlow is Handler with another time that an upload may be slow.
func HandlerWithSlow(config Config, slow time.Duration) http.Handler {
	return newServer(config, heartbeat, slow).handler()
}
