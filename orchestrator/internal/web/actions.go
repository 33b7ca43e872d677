package web

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/kit"
	"mime"
	"net/http"
	"strings"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

// maxForm bounds a form, which is a name and a query.
const maxForm = 1 << 20

// readForm reads a form and checks that the named fields are present and not empty.
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
		return kit.Malformed(err)
	}
	if wantsPage(r) {
		// A browser sends \r
		//  for each
		//  of a text field. The position of an error counts characters of the field.
		for _, values := range r.PostForm {
			for i, value := range values {
				values[i] = strings.ReplaceAll(value, "\r\n", "\n")
			}
		}
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

// An action is what a button does: the step of the page that it belongs to, and the next step if the result is
// shown there; its name when it is done, and its name in an error; the required fields; the query that does it,
// with the fields that are its arguments (null for a field that was not sent); and the HTTP status for programs
// when it is done.
type action struct {
	step, next string
	done, says string
	required   []string
	query      string
	fields     []string
	status     int
	// named is the field that names a materialized view.
	named string
	// refreshes means that the result is that of a refresh.
	refreshes bool
}

func (s *server) run(w http.ResponseWriter, r *http.Request, action action) {
	err := readForm(w, r, action.required...)
	filled := pageOfForm(r.PostForm)
	if err != nil {
		s.fail(w, r, action.step, filled, err)
		return
	}
	result, err := s.act(r, action)
	switch {
	case err != nil:
		s.fail(w, r, action.step, filled, err)
	case !wantsPage(r):
		s.writeJSON(w, r, action.status, result)
	default:
		s.showDone(w, r, action, result)
	}
}

// act runs the query of an action.
func (s *server) act(r *http.Request, action action) (json.RawMessage, error) {
	arguments := make([]any, len(action.fields))
	for i, field := range action.fields {
		if r.PostForm.Has(field) {
			arguments[i] = r.PostForm.Get(field)
		}
	}
	release, err := s.site.TakeAction(r)
	if err != nil {
		return nil, err
	}
	defer release()
	ctx, cancel := kit.TakeTime(r)
	defer cancel()

	var result []byte
	err = s.pool(ctx).QueryRowContext(ctx, action.query, arguments...).Scan(&result)
	if isGone(err) || err == nil && result == nil {
		name := r.PostForm.Get(action.named)
		return nil, &db.UserError{
			Status:  http.StatusNotFound,
			Code:    "42P01",
			Message: fmt.Sprintf("view %s is no longer there", name),
			Hint:    "It was dropped or renamed, or never existed. The list of views shows those that exist.",
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", action.says, err)
	}
	return result, nil
}

// isGone reports whether the error is that the name in a form is that of no relation, and not that a query
// names none.
func isGone(err error) bool {
	var fromServer *pq.Error
	return errors.As(err, &fromServer) &&
		(fromServer.Code == "42P01" || fromServer.Code == "3F000") &&
		fromServer.Position == "" && fromServer.Where == ""
}

// showDone redirects a browser to the page that says what has been done.
func (s *server) showDone(w http.ResponseWriter, r *http.Request, action action, result json.RawMessage) {
	var made struct {
		Relation, Subscription, Secret string
		Count                          int64
		Rebuilt, Warnings              []string
		NotifyWhen                     string `json:"notify_when"`
		Reason                         string
	}
	// The database has written this JSON. A field that it lacks stays empty.
	_ = json.Unmarshal(result, &made)

	values := chosenOf(r.PostForm)
	if relation := cmp.Or(made.Relation, r.PostForm.Get("relation")); relation != "" {
		values.Set("matview", relation)
	}
	if made.Subscription != "" {
		values.Set("subscription", made.Subscription)
	}
	left := flash{
		Done:   action.done,
		About:  cmp.Or(made.Subscription, values.Get("matview")),
		Secret: made.Secret,
		Count:  made.Count,

		Rebuilt: made.Rebuilt, Warnings: made.Warnings,
		NotifyWhen: made.NotifyWhen,
		Reason:     made.Reason,
	}
	if action.refreshes {
		left.Refreshed = &event{}
		_ = json.Unmarshal(result, left.Refreshed)
		left.Refreshed.Rows = nil
	}
	switch action.done {
	case "drop":
		values.Del("matview")
	case "drop-subscription":
		values.Del("subscription")
	}
	to := pageURL(values, cmp.Or(action.next, action.step))
	s.leaveFlash(w, r, to, left)
	s.redirect(w, r, to)
}
