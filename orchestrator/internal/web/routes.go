package web

import (
	"net/http"

	"github.com/klauspost/compress/gzhttp"
)

// routes serves the routes for everyone, and all others to users who have logged in.
func (s *server) routes() http.Handler {
	mux := http.NewServeMux()

	mux.HandleFunc("GET /static/{name}", s.site.ServeAsset)
	for pattern, handler := range s.widgets {
		mux.HandleFunc(pattern, handler)
	}
	for pattern, handler := range s.Others {
		mux.Handle(pattern, handler)
	}
	mux.Handle("/", s.site.Authenticate(s.userRoutes()))

	return mux
}

func (s *server) userRoutes() http.Handler {
	mux := http.NewServeMux()
	isTaken := map[string]bool{}
	for _, screen := range s.screens {
		for pattern, handler := range screen.Routes {
			mux.HandleFunc(pattern, handler)
			isTaken[pattern] = true
		}
	}
	// The routes of the page at / give way to those of the screens.
	for pattern, handler := range s.pageRoutes() {
		if !isTaken[pattern] {
			mux.HandleFunc(pattern, handler)
		}
	}
	return mux
}

func (s *server) pageRoutes() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"GET /{$}":                      s.showPage,
		"GET /news":                     s.showNews,
		"GET /schedules/describe":       s.describeSchedule,
		"GET /rules/replay":             s.replayRule,
		"GET /matviews":                 s.listMatviews,
		"GET /matviews/{name}":          s.downloads.Serve(findMatview, s.showMatview),
		"POST /matviews":                s.createMatview,
		"POST /matviews/preview":        s.previewQuery,
		"POST /matviews/alter":          s.alterMatview,
		"POST /matviews/watch":          s.watchMatview,
		"POST /matviews/pause":          s.pauseMatview,
		"POST /matviews/resume":         s.resumeMatview,
		"POST /matviews/mute":           s.muteMatview,
		"POST /matviews/unmute":         s.unmuteMatview,
		"POST /matviews/schedule":       s.scheduleMatview,
		"POST /matviews/unschedule":     s.unscheduleMatview,
		"POST /matviews/refresh":        s.refreshMatview,
		"POST /matviews/drop":           s.dropMatview,
		"POST /matviews/restore":        s.restoreMatview,
		"POST /matviews/accept":         s.acceptTables,
		"POST /matviews/embed":          s.allowEmbedding,
		"POST /matviews/unembed":        s.forbidEmbedding,
		"GET /subscriptions":            s.listSubscriptions,
		"POST /subscriptions":           s.createSubscription,
		"POST /subscriptions/alter":     s.alterWebhook,
		"POST /subscriptions/edit":      s.editSubscription,
		"POST /subscriptions/test":      s.testSubscription,
		"POST /subscriptions/pause":     s.pauseSubscription,
		"POST /subscriptions/resume":    s.resumeSubscription,
		"POST /subscriptions/mute":      s.muteSubscription,
		"POST /subscriptions/unmute":    s.unmuteSubscription,
		"POST /subscriptions/drop":      s.dropSubscription,
		"POST /subscriptions/retry":     s.retrySubscription,
		"POST /subscriptions/redeliver": s.redeliverParked,
		"POST /deliveries/redeliver":    s.redeliverEvent,
	}
}

// compress compresses pages, styles and scripts. Rows keep their tags, which are those of the bytes themselves.
func compress(next http.Handler) http.Handler {
	wrap, err := gzhttp.NewWrapper(gzhttp.ContentTypes([]string{
		"text/html", "text/css", "text/javascript", "application/javascript", "image/svg+xml",
	}))
	if err != nil {
		panic(err) // the options are constants
	}
	return wrap(next)
}
