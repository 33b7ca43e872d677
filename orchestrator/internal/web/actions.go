package web

import (
	"cmp"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"

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
// query that does it, with its arguments; and the status that tells a program that it is done.
type action struct {
	step, next string
	done, says string
	required   []string
	query      string
	fields     []string
	status     int
	// show, where it is there, has the answer be the page itself, with what was done in it.
	show func(*page, json.RawMessage)
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
		s.fail(w, r, action.step, filled, fmt.Errorf("%s: %w", action.says, err))
		return
	}
	if !wantsPage(r) {
		s.writeJSON(w, r, action.status, result)
		return
	}
	if action.show != nil {
		filled.Done, filled.status = action.done, action.status
		action.show(&filled, result)
		s.renderPage(w, r, filled)
		return
	}
	s.redirect(w, r, pageURL(doneValues(r.PostForm, action.done, result), cmp.Or(action.next, action.step)))
}

// doneValues is what the page needs to know to say what has been done, and go on from there.
func doneValues(form url.Values, done string, result json.RawMessage) url.Values {
	var made struct {
		ID       int64
		Relation string
	}
	// The database wrote it; a field that is not in it stays empty.
	_ = json.Unmarshal(result, &made)

	values := chosenOf(form)
	values.Set("done", done)
	if relation := cmp.Or(made.Relation, form.Get("relation")); relation != "" {
		values.Set("matview", relation)
	}
	switch done {
	case "refresh":
		values.Set("event", strconv.FormatInt(made.ID, 10))
	case "drop":
		values.Del("matview")
	case "drop-subscription":
		values.Del("subscription")
	}
	return values
}
