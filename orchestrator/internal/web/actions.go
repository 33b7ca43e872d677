package web

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strings"

	"github.com/lib/pq"

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
	if wantsPage(r) {
		// A browser sends \r\n where its field has \n: the position of an error is that in the field.
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

// An action is what a button does: a step of the page, and that which shows what has been done, if it is
// another; what it is called when it is done, and while it is not; the fields it cannot do without; the
// query that does it, with its arguments, null for a field that was not sent; and the status that tells a
// program that it is done.
type action struct {
	step, next string
	done, says string
	required   []string
	query      string
	fields     []string
	status     int
	// named is the field that names a materialized view.
	named string
	// refreshes says that the result is that of a refresh.
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
	release, err := s.session(r.Context()).actions.take(r.Context())
	if err != nil {
		return nil, err
	}
	defer release()
	ctx, cancel := takeTime(r)
	defer cancel()

	var result []byte
	err = s.pool(ctx).QueryRowContext(ctx, action.query, arguments...).Scan(&result)
	if isGone(err) || err == nil && result == nil {
		name := r.PostForm.Get(action.named)
		return nil, &db.UserError{
			Status:  http.StatusNotFound,
			Code:    "42P01",
			Message: fmt.Sprintf("view %s is no longer there", name),
			Hint:    "It has been dropped or renamed, or never was. The list of views shows those that are there now.",
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", action.says, err)
	}
	return result, nil
}

// isGone tells that a name in a form is that of no relation, as opposed to one in a query.
func isGone(err error) bool {
	var fromServer *pq.Error
	return errors.As(err, &fromServer) &&
		(fromServer.Code == "42P01" || fromServer.Code == "3F000") &&
		fromServer.Position == "" && fromServer.Where == ""
}

// showDone leads a browser to the page that says what has been done.
func (s *server) showDone(w http.ResponseWriter, r *http.Request, action action, result json.RawMessage) {
	var made struct {
		Relation, Subscription, Secret string
		Count                          int64
	}
	// The database wrote it; a field that is not in it stays empty.
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
