package kit

import (
	"bytes"
	"context"
	"encoding/json"
	"mime"
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

// ByAccept answers browsers with page, and programs with data.
func ByAccept(page, data http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Vary", "Accept")
		if WantsPage(r) {
			page(w, r)
			return
		}
		data(w, r)
	}
}

// WantsPage distinguishes a browser, which gets pages and redirects, from a program, which gets JSON.
func WantsPage(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "text/html")
}

// Explain turns an error into a Problem, and logs it if the user cannot correct it.
func (s *Site) Explain(r *http.Request, err error) db.Problem {
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

// WriteProblem answers with an error as JSON.
func (s *Site) WriteProblem(w http.ResponseWriter, r *http.Request, err error) {
	problem := s.Explain(r, err)
	if problem.Position > 0 {
		problem = PlaceIn(r.PostForm.Get("query"), problem)
	}
	s.WriteJSON(w, r, problem.Status, map[string]db.Problem{"error": problem})
}

// WriteJSON answers with a value as JSON.
func (s *Site) WriteJSON(w http.ResponseWriter, r *http.Request, status int, value any) {
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		s.Logger.ErrorContext(r.Context(), "cannot encode the answer", "path", r.URL.Path, "error", err)
		status = http.StatusInternalServerError
		body.Reset()
		body.WriteString(`{"error":{"message":"internal error"}}` + "\n")
	}
	s.Write(w, r, status, "application/json; charset=utf-8", body.Bytes())
}

// Write answers with these bytes.
func (s *Site) Write(w http.ResponseWriter, r *http.Request, status int, contentType string, body []byte) {
	// The work may have outlasted the deadline that the server set at the start of the request.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))

	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	if _, err := w.Write(body); err != nil {
		s.Logger.InfoContext(r.Context(), "client did not take the answer", "path", r.URL.Path, "error", err)
	}
}

// Redirect sends a browser to another page.
func (s *Site) Redirect(w http.ResponseWriter, r *http.Request, to string) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// PlaceIn converts the position of an error to one in the query as the user wrote it. The query may be a part
// of the statement that the database was given, or not contain the error at all.
func PlaceIn(query string, problem db.Problem) db.Problem {
	statement, isIn := strings.CutSuffix(problem.Query, query)
	problem.Position -= utf8.RuneCountInString(statement)
	if query == "" || !isIn || problem.Position < 0 {
		problem.Position = 0
	}
	return problem
}

// TakeTime bounds the work that a button starts. The server's own timeouts do not bound it: the read timeout
// ends with the request's body, and the answer gets a new write timeout.
func TakeTime(r *http.Request) (context.Context, context.CancelFunc) {
	return context.WithTimeout(r.Context(), runTimeout)
}

// Attachment is a header for which a browser saves the answer as a file with this name.
func Attachment(name string) string {
	safe := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || strings.ContainsRune(`/\:*?"<>|%`, r) {
			return '_'
		}
		return r
	}, name)
	return mime.FormatMediaType("attachment", map[string]string{"filename": safe})
}

// A SteadyWriter lets an answer take long as long as the client keeps reading.
type SteadyWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	// HasBegun means that a part of the answer has been sent.
	HasBegun bool
}

// NewSteadyWriter returns a SteadyWriter for an answer.
func NewSteadyWriter(w http.ResponseWriter) *SteadyWriter {
	return &SteadyWriter{ResponseWriter: w, control: http.NewResponseController(w)}
}

func (w *SteadyWriter) Write(p []byte) (int, error) {
	w.HasBegun = true
	_ = w.control.SetWriteDeadline(time.Now().Add(writeTimeout))
	return w.ResponseWriter.Write(p)
}
