package web

import (
	_ "embed"
	"maps"
	"net/http"

	"github.com/klauspost/compress/gzhttp"
)

// description is what the routes take and answer, for programs that make clients of it. A test of the documents holds it
// against what the program does.
//
//go:embed openapi.json
var description []byte

// routes serves the routes for everyone, and all others to users who have logged in.
func (s *server) routes() http.Handler {
	mux := http.NewServeMux()

	for pattern, handler := range s.public() {
		mux.HandleFunc(pattern, handler)
	}
	for pattern, handler := range s.Others {
		mux.Handle(pattern, handler)
	}
	mux.Handle("/", s.site.Authenticate(s.userRoutes()))

	return mux
}

// public are our own routes that need no log-in.
func (s *server) public() map[string]http.HandlerFunc {
	routes := maps.Clone(s.widgets)
	routes["GET /static/{name}"] = s.site.ServeAsset
	routes["GET /openapi.json"] = s.describe
	return routes
}

func (s *server) describe(w http.ResponseWriter, r *http.Request) {
	s.site.Write(w, r, http.StatusOK, "application/json", description)
}

func (s *server) userRoutes() http.Handler {
	mux := http.NewServeMux()
	for _, screen := range s.screens {
		for pattern, handler := range screen.Routes {
			mux.HandleFunc(pattern, handler)
		}
	}
	return mux
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
