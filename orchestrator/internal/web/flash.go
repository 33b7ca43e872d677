package web

import (
	"crypto/rand"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/trial"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
)

const (
	// flashLasts is longer than a browser takes to follow a redirect.
	flashLasts = time.Minute
	// maxFlashes is how many are kept for each user. A new one replaces the oldest.
	maxFlashes  = 1000
	flashPrefix = "tinydevcrm-flash-"
)

// A flash is the message about what has been done. The page after the redirect shows it once, and only to the
// browser that did it.
type flash struct {
	// Done is the name of the action; About is the view, table or subscription.
	Done, About string
	// NotifyWhen is the rule that the database has chosen for a new view, and Reason why.
	NotifyWhen, Reason string
	// Refreshed is the event of a refresh.
	Refreshed *event
	// Imported is what an upload made.
	Imported *upload.Import
	// Secret is that of a new webhook.
	Secret string
	// Rebuilt are the views on a view whose query was altered, Warnings what that view could not keep.
	Rebuilt, Warnings []string
	// Message is that of a subscription, by its new templates; Test is the outcome of a test.
	Message *previewed
	Test    *trial.Outcome
	// Count is the number of deliveries that are pending again.
	Count int64

	id, query string
	until     time.Time
}

// flashes are the messages for one user that are not shown yet, oldest first.
type flashes struct {
	mu   sync.Mutex
	kept []flash
}

func (f *flashes) keep(kept flash) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	f.kept = slices.DeleteFunc(f.kept, func(old flash) bool { return now.After(old.until) })
	f.kept = append(f.kept[max(0, len(f.kept)+1-maxFlashes):], kept)
}

// take returns the flash with an id if it is for the page with that query. isWaiting means that it is for
// another page.
func (f *flashes) take(id, query string) (found *flash, isWaiting bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	at := slices.IndexFunc(f.kept, func(kept flash) bool { return kept.id == id && time.Now().Before(kept.until) })
	if at < 0 {
		return nil, false
	}
	if f.kept[at].query != query {
		return nil, true
	}
	taken := f.kept[at]
	f.kept = slices.Delete(f.kept, at, at+1)
	return &taken, false
}

// leaveFlash leaves a message for the page at an address. Each message has its own cookie, so that two tabs do
// not take each other's.
func (s *server) leaveFlash(w http.ResponseWriter, r *http.Request, to string, left flash) {
	address, _, _ := strings.Cut(to, "#")
	_, left.query, _ = strings.Cut(address, "?")
	left.id = rand.Text()
	left.until = time.Now().Add(flashLasts)
	s.session(r.Context()).flashes.keep(left)
	http.SetCookie(w, flashCookie(r, left.id, int(flashLasts.Seconds())))
}

// takeFlash returns the message for the requested page; nil for none.
func (s *server) takeFlash(w http.ResponseWriter, r *http.Request) *flash {
	if r.Method != http.MethodGet {
		return nil
	}
	for _, cookie := range r.Cookies() {
		id, isOurs := strings.CutPrefix(cookie.Name, flashPrefix)
		if !isOurs {
			continue
		}
		found, isWaiting := s.session(r.Context()).flashes.take(id, r.URL.Query().Encode())
		if !isWaiting {
			http.SetCookie(w, flashCookie(r, id, -1))
		}
		if found != nil {
			return found
		}
	}
	return nil
}

func flashCookie(r *http.Request, id string, maxAge int) *http.Cookie {
	return &http.Cookie{
		Name:     flashPrefix + id,
		Value:    "1",
		Path:     "/",
		MaxAge:   maxAge,
		HttpOnly: true,
		Secure:   strings.HasPrefix(siteOf(r), "https:"),
		SameSite: http.SameSiteStrictMode,
	}
}
