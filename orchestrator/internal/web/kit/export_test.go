package kit

import (
	"net/http"
	"net/url"
)

// BackOf is the page that shows the result of a form.
func BackOf(form url.Values, to string) string { return backOf(form, to) }

// TakeFlash returns the result for the requested page.
func (s *Site) TakeFlash(w http.ResponseWriter, r *http.Request) *Flash { return s.takeFlash(w, r) }
