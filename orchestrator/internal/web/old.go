package web

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/kit"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/parts"
)

// What the page at / needs from the kit, by the names that it uses, until its last section is a screen.

const shownEvents = 20

type event = parts.Event

func wantsPage(r *http.Request) bool               { return kit.WantsPage(r) }
func tagOf(values ...any) string                   { return kit.TagOf(values...) }
func isKnown(r *http.Request, tag string) bool     { return kit.IsKnown(r, tag) }
func (s *server) pool(ctx context.Context) *sql.DB { return s.site.DB(ctx) }

func (s *server) explain(r *http.Request, err error) db.Problem { return s.site.Explain(r, err) }

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
	problem := kit.PlaceIn(r.PostForm.Get("query"), s.explain(r, err))
	if problem.IsAway {
		filled.setAway(step, problem)
	} else {
		filled.setProblem(step, problem)
	}
	s.renderPage(w, r, filled)
}

func (s *server) writeProblem(w http.ResponseWriter, r *http.Request, err error) {
	s.site.WriteProblem(w, r, err)
}

func (s *server) writeJSON(w http.ResponseWriter, r *http.Request, status int, value any) {
	s.site.WriteJSON(w, r, status, value)
}

func (s *server) write(w http.ResponseWriter, r *http.Request, status int, contentType string, body []byte) {
	s.site.Write(w, r, status, contentType, body)
}

func (s *server) redirect(w http.ResponseWriter, r *http.Request, to string) {
	s.site.Redirect(w, r, to)
}

// fillEvents reads the newest events, or those before a given one.
func (s *server) fillEvents(ctx context.Context, shown *page) error {
	matview, outcome := shown.Chosen.Get("of"), shown.Chosen.Get("outcome")
	if matview != "" {
		// Events have the name with its schema; a dropped view is known by that only.
		err := s.pool(ctx).QueryRowContext(ctx, "select tinydevcrm._matview_key($1)", matview).Scan(&matview)
		if err != nil {
			return fmt.Errorf("find a view by its name: %w", err)
		}
		shown.Chosen.Set("of", matview)
	}
	events, err := s.events.ReadForPage(ctx, parts.Latest, 0, shownEvents+1, matview, outcome, shown.Before)
	if err != nil {
		return err
	}
	shown.HasMore.Events = len(events) > shownEvents
	shown.Events = events[:min(len(events), shownEvents)]
	return nil
}

// beforeOf is the event before which the list of events begins; 0 for the newest.
func beforeOf(values url.Values) int64 {
	before, _ := strconv.ParseInt(values.Get("before"), 10, 64)
	return before
}
