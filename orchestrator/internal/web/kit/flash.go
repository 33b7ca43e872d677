package kit

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

const (
	// flashLasts is longer than a browser takes to follow a redirect. secretLasts is how long a page shows a secret
	// again when it is reloaded.
	flashLasts  = time.Minute
	secretLasts = 10 * time.Minute
	// maxFlashes and maxFlashBytes are how many, and how many bytes of input and texts, are kept for each user. A new one
	// replaces the oldest.
	maxFlashes    = 1000
	maxFlashBytes = 8 << 20
	flashPrefix   = "tinydevcrm-result-"
)

// A Flash is the result of a request. The page after the redirect shows it once, and only to the browser that sent
// the request.
type Flash struct {
	// Done is the name of the action that was done; empty when it failed.
	Done string
	// Made is what the database answered.
	Made map[string]any
	// Problem is why it failed, At the part of the page that shows it, and Form the user's input.
	Problem *db.Problem
	At      string
	Form    url.Values
	// IsLost means that the result is not known: another orchestrator has it, or it took too long.
	IsLost bool
	// HasSecret keeps it for ten minutes, so that a reload shows the secret again.
	HasSecret bool

	id, address string
	size        int
	until       time.Time
}

// sizeOf is about how many bytes a flash takes.
func sizeOf(f Flash) int {
	kept, err := json.Marshal([]any{f.Made, f.Problem, f.Form})
	if err != nil {
		return maxFlashBytes
	}
	if f.Problem != nil {
		return len(kept) + len(f.Problem.Query)
	}
	return len(kept)
}

// flashes are the results for one user that are not shown yet, oldest first.
type flashes struct {
	mu   sync.Mutex
	kept []Flash
}

func (f *flashes) keep(kept Flash) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	f.kept = slices.DeleteFunc(f.kept, func(old Flash) bool { return now.After(old.until) })
	f.kept = append(f.kept, kept)
	bytes := 0
	for _, each := range f.kept {
		bytes += each.size
	}
	for len(f.kept) > 1 && (len(f.kept) > maxFlashes || bytes > maxFlashBytes) {
		bytes -= f.kept[0].size
		f.kept = f.kept[1:]
	}
}

// take returns the newest of these flashes if it is for the page at that address, and the ids of those that are over:
// it replaces the older ones of that page, also a secret.
func (f *flashes) take(ids []string, address string) (newest *Flash, over []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	isOf := func(kept Flash) bool { return slices.Contains(ids, kept.id) && now.Before(kept.until) }
	lost := slices.DeleteFunc(slices.Clone(ids), func(id string) bool {
		return slices.ContainsFunc(f.kept, func(kept Flash) bool { return isOf(kept) && kept.id == id })
	})
	if len(lost) > 0 {
		newest = &Flash{IsLost: true}
	}
	over = lost
	for _, kept := range slices.Backward(f.kept) {
		switch {
		case !isOf(kept) || kept.address != address:
			continue
		case newest == nil || newest.IsLost:
			newest = &kept
			if kept.HasSecret {
				continue
			}
		}
		over = append(over, kept.id)
	}
	f.kept = slices.DeleteFunc(f.kept, func(kept Flash) bool { return slices.Contains(over, kept.id) })
	return newest, over
}

// LeaveFlash leaves a result for the page at an address. Each has its own cookie, so that two tabs do not take each
// other's.
func (s *Site) LeaveFlash(w http.ResponseWriter, r *http.Request, to string, left Flash) {
	left.address, _, _ = strings.Cut(to, "#")
	left.id, left.size = rand.Text(), sizeOf(left)
	lasts := flashLasts
	if left.HasSecret {
		lasts = secretLasts
	}
	left.until = time.Now().Add(lasts)
	s.Session(r.Context()).flashes.keep(left)
	http.SetCookie(w, flashCookie(r, left.id, int(lasts.Seconds())))
}

// takeFlash returns the result for the requested page; nil for none.
func (s *Site) takeFlash(w http.ResponseWriter, r *http.Request) *Flash {
	if r.Method != http.MethodGet {
		return nil
	}
	var ids []string
	for _, cookie := range r.Cookies() {
		if id, isOurs := strings.CutPrefix(cookie.Name, flashPrefix); isOurs {
			ids = append(ids, id)
		}
	}
	newest, over := s.Session(r.Context()).flashes.take(ids, r.URL.RequestURI())
	for _, id := range over {
		http.SetCookie(w, flashCookie(r, id, -1))
	}
	return newest
}

// returnFlash keeps a result for the next attempt to show the page.
func (s *Site) returnFlash(w http.ResponseWriter, r *http.Request, taken *Flash) {
	if taken != nil && !taken.IsLost {
		s.LeaveFlash(w, r, taken.address, *taken)
	}
}

// cookieMark is a cookie that all pages set, to know which browsers keep cookies.
const cookieMark = "tinydevcrm-cookies"

func markCookies(w http.ResponseWriter, r *http.Request) {
	if !KeepsCookies(r) {
		http.SetCookie(w, newCookie(r, cookieMark, 0))
	}
}

// KeepsCookies reports whether the sender is a browser that has shown a page and keeps cookies.
func KeepsCookies(r *http.Request) bool {
	_, err := r.Cookie(cookieMark)
	return err == nil
}

func flashCookie(r *http.Request, id string, maxAge int) *http.Cookie {
	return newCookie(r, flashPrefix+id, maxAge)
}

func newCookie(r *http.Request, name string, maxAge int) *http.Cookie {
	return &http.Cookie{
		Name:     name,
		Value:    "1",
		Path:     "/",
		MaxAge:   maxAge,
		HttpOnly: true,
		Secure:   strings.HasPrefix(SiteOf(r), "https:"),
		SameSite: http.SameSiteStrictMode,
	}
}

// SiteOf returns the URL of this server, as the sender of the request knows it.
func SiteOf(r *http.Request) string {
	scheme := "http"
	if r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https" {
		scheme = "https"
	}
	return scheme + "://" + r.Host
}
