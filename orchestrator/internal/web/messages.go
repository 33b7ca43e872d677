package web

import (
	"encoding/json"
	"net/http"

	notifications "github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/message"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/trial"
)

// A previewed is the message of a subscription for its last event, or for an example.
type previewed struct {
	Subscription string `json:"subscription"`
	Title        string `json:"title"`
	Text         string `json:"message"`
	Link         string `json:"link"`
}

// A templateForm is the form of the templates of a subscription.
type templateForm struct{ Subscription, Title, Message string }

// editSubscription sets the templates of a subscription, and shows what comes of them.
func (s *server) editSubscription(w http.ResponseWriter, r *http.Request) {
	editing := ofSubscription("edit-subscription", "edit a subscription", "")
	editing.fields = []string{"subscription", "title", "message"}
	// The preview does not see what its own statement changes.
	editing.query = `
		select tinydevcrm.preview_message($1, $2, $3)
		  from tinydevcrm.alter_subscription($1, $2, $3)`
	err := readForm(w, r, editing.required...)
	var notification json.RawMessage
	if err == nil {
		notification, err = s.act(r, editing)
	}
	var m notifications.Message
	if err == nil {
		m, err = notifications.Parse(notification, s.PublicURL)
	}
	shown := previewed{r.PostForm.Get("subscription"), m.Title, m.Text, m.Link}
	s.answer(w, r, editing, err, shown, flash{Message: &shown})
}

// testSubscription sends a test and waits for its outcome. A message that was refused is an answer too.
func (s *server) testSubscription(w http.ResponseWriter, r *http.Request) {
	testing := ofSubscription("test-subscription", "test a subscription", "")
	err := readForm(w, r, testing.required...)
	var outcome trial.Outcome
	if err == nil {
		outcome, err = s.test(r)
	}
	s.answer(w, r, testing, err, outcome, flash{Test: &outcome})
}

func (s *server) test(r *http.Request) (trial.Outcome, error) {
	release, err := s.session(r.Context()).actions.take(r.Context())
	if err != nil {
		return trial.Outcome{}, err
	}
	defer release()
	return trial.Ask(r.Context(), s.pool(r.Context()), r.PostForm.Get("subscription"))
}

// answer gives a program the result as JSON, and a browser the page that shows it.
func (s *server) answer(w http.ResponseWriter, r *http.Request, done action, err error, result any, left flash) {
	if err != nil {
		s.fail(w, r, done.step, pageOfForm(r.PostForm), err)
		return
	}
	if !wantsPage(r) {
		s.writeJSON(w, r, done.status, result)
		return
	}
	left.Done, left.About = done.done, r.PostForm.Get("subscription")
	values := chosenOf(r.PostForm)
	values.Set("subscription", left.About)
	to := pageURL(values, done.step)
	s.leaveFlash(w, r, to, left)
	s.redirect(w, r, to)
}
