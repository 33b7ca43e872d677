package kit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

// maxForm bounds a form, which is a name and a query.
const maxForm = 1 << 20

// ReadForm reads a form and checks that the named fields are present and not empty.
func ReadForm(w http.ResponseWriter, r *http.Request, required ...string) error {
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
		return Malformed(err)
	}
	if WantsPage(r) {
		// A browser sends \r\n for each \n of a text field. The position of an error counts characters of the field.
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

// Malformed is the error for a form that cannot be read, unless the cause has a better message.
func Malformed(err error) error {
	var (
		tooLarge *http.MaxBytesError
		fromUser *db.UserError
	)
	switch {
	case errors.As(err, &tooLarge), errors.As(err, &fromUser), errors.Is(err, io.ErrUnexpectedEOF):
		return err
	case IsTimeout(err):
		return &db.UserError{
			Status:  http.StatusRequestTimeout,
			Message: "the request sent no data for too long",
		}
	}
	return &db.UserError{Status: http.StatusBadRequest, Message: "the form cannot be read: " + err.Error()}
}

// IsTimeout reports whether the client was too slow.
func IsTimeout(err error) bool {
	var fromNet net.Error
	return errors.As(err, &fromNet) && fromNet.Timeout()
}

// An Action is what a button does.
type Action struct {
	// Name is what the next page knows it by, when it is done: see Page.HasDone. Says names it in an error.
	Name, Says string
	// Required are the fields that must not be empty. Fields are the arguments of Query, which returns one JSON
	// value; one that was not sent is null.
	Required, Fields []string
	Query            string
	// Work does what a query alone cannot; it is called instead.
	Work func(ctx context.Context, form url.Values) (any, error)
	// Named is the field that names a table or view.
	Named string
	// Status is the HTTP status for programs; 0 for 200.
	Status int
	// Screen is the URL of the page with the form, At the part of that page.
	Screen func(form url.Values) string
	At     string
	// Next is the URL of the page that shows the result; nil for that of the form.
	Next func(form url.Values, made map[string]any) string
	// HasSecret means that the answer may contain a secret. A page with one is shown again for a while.
	HasSecret bool
	// KeepsInput means that the next page shows the input too: nothing was saved.
	KeepsInput bool
}

// Do runs the query of an action. Programs get its answer as JSON. Browsers are redirected, also after an error, so
// that a reload repeats nothing. A form can name another page that shows the result, in its field back.
func (s *Site) Do(action Action) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		err := ReadForm(w, r, action.Required...)
		var answer json.RawMessage
		if err == nil {
			answer, err = s.act(r, action)
		}
		switch {
		case !WantsPage(r) && err != nil:
			s.WriteProblem(w, r, err)
		case !WantsPage(r):
			s.WriteJSON(w, r, max(action.Status, http.StatusOK), answer)
		case err != nil:
			s.Refuse(w, r, backOf(r.PostForm, action.Screen(r.PostForm)), action.At, err)
		default:
			made := readMade(answer)
			to := action.Screen(r.PostForm)
			if action.Next != nil {
				to = action.Next(r.PostForm, made)
			}
			to = backOf(r.PostForm, to)
			left := Flash{Done: action.Name, Made: made, HasSecret: action.HasSecret && made["secret"] != nil}
			if action.KeepsInput {
				left.Form = r.PostForm
			}
			s.LeaveFlash(w, r, to, left)
			s.Redirect(w, r, to)
		}
	}
}

// Refuse redirects a browser to the page of a form, which then shows the error at one of its parts, and the input.
func (s *Site) Refuse(w http.ResponseWriter, r *http.Request, to, at string, err error) {
	if !keepsCookies(r) {
		// It would not see the error on the next page.
		s.showFailure(w, r, err)
		return
	}
	problem := PlaceIn(r.PostForm.Get("query"), s.Explain(r, err))
	s.LeaveFlash(w, r, to, Flash{Problem: &problem, At: at, Form: r.PostForm})
	if at != "" {
		to += "#" + at
	}
	s.Redirect(w, r, to)
}

// backOf is the page that a form names in its field back, if it is one of ours, or else to.
func backOf(form url.Values, to string) string {
	back, err := url.Parse(form.Get("back"))
	if err != nil || back.IsAbs() || back.Host != "" || !strings.HasPrefix(back.Path, "/") || strings.HasPrefix(back.Path, "//") {
		return to
	}
	return back.RequestURI()
}

// readMade reads the JSON that the database has written. Numbers keep all their digits.
func readMade(answer json.RawMessage) map[string]any {
	made := map[string]any{}
	decoder := json.NewDecoder(bytes.NewReader(answer))
	decoder.UseNumber()
	_ = decoder.Decode(&made)
	return made
}

// act does the work of an action.
func (s *Site) act(r *http.Request, action Action) (json.RawMessage, error) {
	release, err := s.TakeAction(r)
	if err != nil {
		return nil, err
	}
	defer release()
	ctx, cancel := TakeTime(r)
	defer cancel()
	if action.Work == nil {
		return s.runQuery(ctx, r.PostForm, action)
	}
	result, err := action.Work(ctx, r.PostForm)
	if err != nil {
		return nil, err
	}
	return json.Marshal(result)
}

func (s *Site) runQuery(ctx context.Context, form url.Values, action Action) (json.RawMessage, error) {
	var result []byte
	err := s.DB(ctx).QueryRowContext(ctx, action.Query, Arguments(form, action.Fields...)...).Scan(&result)
	if isGone(err) || err == nil && result == nil {
		name := form.Get(action.Named)
		return nil, &db.UserError{
			Status:  http.StatusNotFound,
			Code:    "42P01",
			Message: fmt.Sprintf("%s is no longer there", name),
			Hint:    "It was dropped or renamed, or never existed. The lists of tables and views show those that exist.",
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", action.Says, err)
	}
	return result, nil
}

// Arguments are the values of fields for a query; nil for one that was not sent. Several of one name, as of
// checkboxes, are a list with commas.
func Arguments(form url.Values, fields ...string) []any {
	arguments := make([]any, len(fields))
	for i, field := range fields {
		if form.Has(field) {
			arguments[i] = strings.Join(form[field], ", ")
		}
	}
	return arguments
}

// isGone reports whether the error is that the name in a form is that of no relation, and not that a query
// names none.
func isGone(err error) bool {
	var fromServer *pq.Error
	return errors.As(err, &fromServer) &&
		(fromServer.Code == "42P01" || fromServer.Code == "3F000") &&
		fromServer.Position == "" && fromServer.Where == ""
}
