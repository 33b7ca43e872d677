package web

import "net/http"

// routes serves the routes for everyone, and all others to users who have logged in.
func (s *server) routes() http.Handler {
	mux := http.NewServeMux()

	mux.HandleFunc("GET /static/{name}", s.serveAsset)
	mux.HandleFunc("GET /theme.css", s.serveTheme)
	mux.HandleFunc("GET /embed/{matview}", s.showWidget)
	for pattern, handler := range s.Others {
		mux.Handle(pattern, handler)
	}
	mux.Handle("/", s.authenticate(s.userRoutes()))

	return mux
}

func (s *server) userRoutes() http.Handler {
	mux := http.NewServeMux()

	mux.HandleFunc("GET /{$}", s.showPage)
	// The links of notifications.
	mux.HandleFunc("GET /views/{name}", s.showChosen("matview", stepSchedule))
	mux.HandleFunc("GET /subscriptions/{name}", s.showChosen("subscription", stepNotify))

	mux.HandleFunc("POST /upload-file", s.uploadFile)
	mux.HandleFunc("GET /imports/{id}/problems.csv", s.showProblems)

	mux.HandleFunc("GET /news", s.showNews)

	mux.HandleFunc("GET /schedules/describe", s.describeSchedule)
	mux.HandleFunc("GET /rules/replay", s.replayRule)
	mux.HandleFunc("GET /matviews", s.listMatviews)
	mux.HandleFunc("GET /matviews/{name}", s.showRows)
	mux.HandleFunc("POST /matviews", s.createMatview)
	mux.HandleFunc("POST /matviews/preview", s.previewQuery)
	mux.HandleFunc("POST /matviews/alter", s.alterMatview)
	mux.HandleFunc("POST /matviews/watch", s.watchMatview)
	mux.HandleFunc("POST /matviews/pause", s.pauseMatview)
	mux.HandleFunc("POST /matviews/resume", s.resumeMatview)
	mux.HandleFunc("POST /matviews/mute", s.muteMatview)
	mux.HandleFunc("POST /matviews/unmute", s.unmuteMatview)
	mux.HandleFunc("POST /matviews/schedule", s.scheduleMatview)
	mux.HandleFunc("POST /matviews/unschedule", s.unscheduleMatview)
	mux.HandleFunc("POST /matviews/refresh", s.refreshMatview)
	mux.HandleFunc("POST /matviews/drop", s.dropMatview)
	mux.HandleFunc("POST /matviews/restore", s.restoreMatview)
	mux.HandleFunc("POST /matviews/accept", s.acceptTables)
	mux.HandleFunc("POST /matviews/embed", s.allowEmbedding)
	mux.HandleFunc("POST /matviews/unembed", s.forbidEmbedding)

	mux.HandleFunc("GET /subscriptions", s.listSubscriptions)
	mux.HandleFunc("POST /subscriptions", s.createSubscription)
	mux.HandleFunc("POST /subscriptions/alter", s.alterWebhook)
	mux.HandleFunc("POST /subscriptions/edit", s.editSubscription)
	mux.HandleFunc("POST /subscriptions/test", s.testSubscription)
	mux.HandleFunc("POST /subscriptions/pause", s.pauseSubscription)
	mux.HandleFunc("POST /subscriptions/resume", s.resumeSubscription)
	mux.HandleFunc("POST /subscriptions/mute", s.muteSubscription)
	mux.HandleFunc("POST /subscriptions/unmute", s.unmuteSubscription)
	mux.HandleFunc("POST /subscriptions/drop", s.dropSubscription)
	mux.HandleFunc("POST /subscriptions/retry", s.retrySubscription)
	mux.HandleFunc("POST /subscriptions/redeliver", s.redeliverParked)
	mux.HandleFunc("POST /deliveries/redeliver", s.redeliverEvent)

	mux.HandleFunc("GET /events", s.listEvents)
	mux.HandleFunc("GET /events/stream", s.streamEvents)

	return mux
}
