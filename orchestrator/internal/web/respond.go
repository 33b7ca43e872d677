package web

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

// wantsPage distinguishes a browser, which gets pages and redirects, from a program, which gets JSON.
func wantsPage(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "text/html")
}

// explain turns an error into a Problem, and logs it if the user cannot correct it.
func (s *server) explain(r *http.Request, err error) db.Problem {
	if r.Context().Err() != nil {
		// The client has left, or the program ends. The error is only a consequence.
		s.Logger.InfoContext(r.Context(), "request cancelled", "path", r.URL.Path, "error", err)
		return db.Problem{
			Status:  http.StatusServiceUnavailable,
			Message: "the request was cancelled before it was done",
		}
	}

	problem := db.Explain(err)
	if now := time.Now(); problem.IsAway {
		s.awaySince.CompareAndSwap(nil, &now)
	}
	if problem.Status >= http.StatusInternalServerError {
		s.Logger.ErrorContext(r.Context(), "request failed",
			"method", r.Method, "path", r.URL.Path, "status", problem.Status, "error", err)
	}
	if s.Login != nil {
		problem = withoutAddresses(problem)
	}
	return problem
}

// withoutAddresses removes the addresses of internal servers: they are in the log, and not for users.
func withoutAddresses(problem db.Problem) db.Problem {
	if strings.HasPrefix(problem.Code, "08") || problem.IsAway && problem.Code == "" {
		problem.Message, problem.Detail = "the database does not answer", ""
		problem.Hint = "Try again later."
	}
	return problem
}

// explainIf is explain, or nil when there is no error.
func (s *server) explainIf(r *http.Request, err error) *db.Problem {
	if err == nil {
		return nil
	}
	problem := s.explain(r, err)
	return &problem
}

// fail answers with an error. A browser gets the page with the error at its step and the user's input; a
// program gets JSON.
func (s *server) fail(w http.ResponseWriter, r *http.Request, step string, filled page, err error) {
	if !wantsPage(r) {
		s.writeProblem(w, r, err)
		return
	}
	problem := placeIn(r.PostForm.Get("query"), s.explain(r, err))
	if problem.IsAway {
		filled.setAway(step, problem)
	} else {
		filled.setProblem(step, problem)
	}
	s.renderPage(w, r, filled)
}

// writeProblem answers with an error as JSON.
func (s *server) writeProblem(w http.ResponseWriter, r *http.Request, err error) {
	problem := s.explain(r, err)
	if problem.Position > 0 {
		problem = placeIn(r.PostForm.Get("query"), problem)
	}
	s.writeJSON(w, r, problem.Status, map[string]db.Problem{"error": problem})
}

func (s *server) writeJSON(w http.ResponseWriter, r *http.Request, status int, value any) {
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		s.Logger.ErrorContext(r.Context(), "cannot encode the answer", "path", r.URL.Path, "error", err)
		status = http.StatusInternalServerError
		body.Reset()
		body.WriteString(`{"error":{"message":"internal error"}}` + "\n")
	}
	s.write(w, r, status, "application/json; charset=utf-8", body.Bytes())
}

func (s *server) write(w http.ResponseWriter, r *http.Request, status int, contentType string, body []byte) {
	// The work may have outlasted the deadline that the server set at the start of the request.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))

	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	if _, err := w.Write(body); err != nil {
		s.Logger.InfoContext(r.Context(), "client did not take the answer", "path", r.URL.Path, "error", err)
	}
}

// redirect sends a browser back to the page, at a step.
func (s *server) redirect(w http.ResponseWriter, r *http.Request, to string) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// takeTime bounds the work that a button starts. The server's own timeouts do not bound it: the read timeout
// ends with the request's body, and the answer gets a new write timeout.
func takeTime(r *http.Request) (context.Context, context.CancelFunc) {
	return context.WithTimeout(r.Context(), runTimeout)
}
