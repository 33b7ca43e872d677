package web

import (
	"maps"
	"net/http"
	"slices"
	"time"
)

// Patterns lists the routes but those of Config.Others.
func Patterns(config Config) []string {
	s := newServer(config, heartbeat, slowTimeout)
	patterns := slices.Collect(maps.Keys(s.public()))
	for _, screen := range s.screens {
		patterns = slices.AppendSeq(patterns, maps.Keys(screen.Routes))
	}
	return patterns
}

// HandlerWithHeartbeat is Handler with a heartbeat that a test can wait for.
func HandlerWithHeartbeat(config Config, heartbeat time.Duration) http.Handler {
	return newHandler(config, heartbeat)
}

// HandlerWithSlow is Handler with another time that an upload may be slow.
func HandlerWithSlow(config Config, slow time.Duration) http.Handler {
	return newServer(config, heartbeat, slow).handler()
}
