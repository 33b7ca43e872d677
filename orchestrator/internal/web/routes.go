package web

import "net/http"

func (s *server) routes() http.Handler {
	mux := http.NewServeMux()

	mux.HandleFunc("GET /{$}", s.showPage)
	mux.HandleFunc("GET /static/{name}", s.serveAsset)

	mux.HandleFunc("POST /upload-file", s.uploadFile)

	mux.HandleFunc("GET /matviews", s.listMatviews)
	mux.HandleFunc("POST /matviews", s.createMatview)
	mux.HandleFunc("POST /matviews/schedule", s.scheduleMatview)
	mux.HandleFunc("POST /matviews/unschedule", s.unscheduleMatview)
	mux.HandleFunc("POST /matviews/refresh", s.refreshMatview)
	mux.HandleFunc("POST /matviews/drop", s.dropMatview)

	mux.HandleFunc("GET /events", s.listEvents)
	mux.HandleFunc("GET /events/stream", s.streamEvents)

	return mux
}
