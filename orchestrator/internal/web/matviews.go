package web

import (
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strconv"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

// maxForm bounds a form: a name and a query.
const maxForm = 1 << 20

// readForm reads a form and checks that the named fields are there and filled in.
func readForm(w http.ResponseWriter, r *http.Request, required ...string) error {
	contentType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if contentType != "application/x-www-form-urlencoded" && r.ContentLength != 0 {
		return &db.UserError{
			Status:  http.StatusUnsupportedMediaType,
			Message: "the request is not a form",
			Hint:    "Send it as application/x-www-form-urlencoded: curl --data-urlencode name=value …",
		}
	}

	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		return malformed(err)
	}
	for _, name := range required {
		if r.PostForm.Get(name) == "" {
			return &db.UserError{
				Status:  http.StatusBadRequest,
				Message: fmt.Sprintf("the field %q is missing or empty", name),
			}
		}
	}
	return nil
}

// An action is what a button does: a step of the page, the fields it cannot do without, the query
// that does it, with its arguments, and the status that tells a program that it is done.
type action struct {
	step     string
	required []string
	query    string
	fields   []string
	status   int
	done     string
}

func (s *server) createMatview(w http.ResponseWriter, r *http.Request) {
	s.run(w, r, action{
		step:     stepView,
		required: []string{"name", "query"},
		query: `
			select json_build_object('relation', created.relation::text)
			  from tinydevcrm.create_matview(
			           name => $1,
			           query => $2,
			           notify_when => coalesce(nullif($3, ''), 'not_empty')) as created (relation)`,
		fields: []string{"name", "query", "notify_when"},
		status: http.StatusCreated,
		done:   "create",
	})
}

func (s *server) scheduleMatview(w http.ResponseWriter, r *http.Request) {
	s.run(w, r, action{
		step:     stepSchedule,
		required: []string{"relation", "schedule"},
		query: `
			select row_to_json(scheduled)
			  from tinydevcrm.schedule_matview($1::text::regclass, $2) as scheduled`,
		fields: []string{"relation", "schedule"},
		status: http.StatusOK,
		done:   "schedule",
	})
}

func (s *server) unscheduleMatview(w http.ResponseWriter, r *http.Request) {
	s.run(w, r, action{
		step:     stepSchedule,
		required: []string{"relation"},
		query: `
			select json_build_object('relation', $1::text)
			  from tinydevcrm.unschedule_matview($1::text::regclass)`,
		fields: []string{"relation"},
		status: http.StatusOK,
		done:   "unschedule",
	})
}

func (s *server) refreshMatview(w http.ResponseWriter, r *http.Request) {
	s.run(w, r, action{
		step:     stepSchedule,
		required: []string{"relation"},
		query: `
			select tinydevcrm.event_json(events)
			  from tinydevcrm.refresh_matview($1::text::regclass) as events`,
		fields: []string{"relation"},
		status: http.StatusOK,
		done:   "refresh",
	})
}

func (s *server) dropMatview(w http.ResponseWriter, r *http.Request) {
	s.run(w, r, action{
		step:     stepSchedule,
		required: []string{"relation"},
		query: `
			select json_build_object('relation', $1::text)
			  from tinydevcrm.drop_matview($1::text::regclass)`,
		fields: []string{"relation"},
		status: http.StatusOK,
		done:   "drop",
	})
}

func (s *server) run(w http.ResponseWriter, r *http.Request, action action) {
	err := readForm(w, r, action.required...)
	filled := pageOfForm(r.PostForm)
	if err != nil {
		s.fail(w, r, action.step, filled, err)
		return
	}

	arguments := make([]any, len(action.fields))
	for i, field := range action.fields {
		arguments[i] = r.PostForm.Get(field)
	}

	release, err := s.session(r.Context()).actions.take(r.Context())
	if err != nil {
		s.fail(w, r, action.step, filled, err)
		return
	}
	defer release()
	ctx, cancel := takeTime(r)
	defer cancel()

	var result json.RawMessage
	if err := s.pool(ctx).QueryRowContext(ctx, action.query, arguments...).Scan(&result); err != nil {
		s.fail(w, r, action.step, filled, fmt.Errorf("%s a materialized view: %w", action.done, err))
		return
	}
	if !wantsPage(r) {
		s.writeJSON(w, r, action.status, result)
		return
	}
	s.redirect(w, r, pageURL(doneValues(r.PostForm, action.done, result), stepSchedule))
}

// doneValues is what the page needs to know to say what has been done, and go on from there.
func doneValues(form url.Values, done string, result json.RawMessage) url.Values {
	var made struct {
		ID       int64
		Relation string
	}
	// The database wrote it; a field that is not in it stays empty.
	_ = json.Unmarshal(result, &made)

	values := url.Values{"done": {done}, "matview": {form.Get("relation")}}
	if made.Relation != "" {
		values.Set("matview", made.Relation)
	}
	if form.Get("table") != "" {
		values.Set("table", form.Get("table"))
	}
	if done == "refresh" {
		values.Set("event", strconv.FormatInt(made.ID, 10))
	}
	return values
}

func (s *server) listMatviews(w http.ResponseWriter, r *http.Request) {
	s.writeQuery(w, r, `
		select coalesce(json_agg(row_to_json(matview_status) order by relation::text), '[]')
		  from tinydevcrm.matview_status`)
}

// writeQuery answers a program with what a query gives: one value of JSON.
func (s *server) writeQuery(w http.ResponseWriter, r *http.Request, query string, arguments ...any) {
	ctx, cancel := timeoutOf(r)
	defer cancel()

	var result json.RawMessage
	if err := s.pool(ctx).QueryRowContext(ctx, query, arguments...).Scan(&result); err != nil {
		s.writeProblem(w, r, fmt.Errorf("read for %s: %w", r.URL.Path, err))
		return
	}
	s.writeJSON(w, r, http.StatusOK, result)
}
