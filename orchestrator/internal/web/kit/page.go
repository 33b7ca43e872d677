package kit

import (
	"bytes"
	"context"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

// A Screen is one topic of the site: a place in the navigation, and routes by their patterns.
type Screen struct {
	Name, Path string
	Routes     map[string]http.HandlerFunc
}

// Add puts screens into the navigation, in this order.
func (s *Site) Add(screens ...Screen) { s.screens = append(s.screens, screens...) }

// A Link leads to a page.
type Link struct{ Name, URL string }

// A Page is what the layout shows, around the template of a screen.
type Page struct {
	// Title is the name of the page, and its heading.
	Title string
	// Crumbs are the pages above it.
	Crumbs []Link
	// Shown is what the template of the screen shows as .Shown; nil when it could not be read.
	Shown any
	// Flash is the result of the request that led here; nil for none.
	Flash *Flash
	// Problem is why the page could not be read, or why the last request failed.
	Problem *db.Problem
	// AwaySince is when it was noticed that the database is away.
	AwaySince time.Time
	// User is the role that has logged in; empty without log-ins.
	User string
	// Styles and Scripts are the URLs of the screen's own files.
	Styles, Scripts []string

	status  int
	at      string
	screens []Screen
	search  string
	// isProblemShown becomes true when the error is shown. isProblemAtTop means that no part of the page shows it.
	isProblemShown *bool
	isProblemAtTop bool
}

// Pages are the pages of one screen.
type Pages struct {
	site            *Site
	templates       *template.Template
	styles, scripts []string
}

// Load reads the files of a screen, and those that it shares with others. All templates of a screen see each other;
// each page loads all styles and scripts. Two screens have no file of the same name but for templates.
func (s *Site) Load(own fs.FS, shared ...fs.FS) *Pages {
	pages := &Pages{site: s, templates: template.Must(s.layout.Clone())}
	for _, from := range append(shared, own) {
		s.parse(pages.templates, from)
	}
	for _, name := range s.AddFiles(own) {
		switch path.Ext(name) {
		case ".css":
			pages.styles = append(pages.styles, s.Static(name))
		case ".js":
			pages.scripts = append(pages.scripts, s.Static(name))
		}
	}
	return pages
}

// Show serves a page. read sets its title and what its template shows. When read fails, the page shows why.
func (p *Pages) Show(name string, read func(r *http.Request, page *Page) error) http.HandlerFunc {
	show := template.Must(p.templates.Clone())
	template.Must(show.New("main").Parse(`{{template "` + name + `" .}}`))
	return func(w http.ResponseWriter, r *http.Request) {
		page := Page{Styles: p.styles, Scripts: p.scripts, Flash: p.site.takeFlash(w, r)}
		ctx, cancel := context.WithTimeout(r.Context(), ReadTimeout)
		defer cancel()
		err := read(r.WithContext(ctx), &page)
		p.site.render(w, r, show, page, err)
	}
}

// showFailure answers with a page that has only an error.
func (s *Site) showFailure(w http.ResponseWriter, r *http.Request, err error) {
	s.render(w, r, s.layout, Page{}, err)
}

func (s *Site) render(w http.ResponseWriter, r *http.Request, show *template.Template, page Page, err error) {
	page.User, page.screens, page.status = s.Session(r.Context()).User, s.screens, http.StatusOK
	markCookies(w, r)
	page.at, page.search = r.URL.Path, r.URL.Query().Get("search")
	if page.Flash != nil && page.Flash.Problem != nil {
		page.Problem = page.Flash.Problem
	}
	if err != nil {
		problem := s.Explain(r, err)
		page.status = problem.Status
		// Why the request was refused is what the user wants to know, also when the page is no longer there.
		if page.Problem == nil || problem.IsAway {
			page.Problem = &problem
		}
	}
	switch since := s.awaySince.Load(); {
	case err == nil:
		s.awaySince.Store(nil)
	case page.Problem.IsAway && since != nil:
		page.AwaySince, page.status = *since, http.StatusServiceUnavailable
		w.Header().Set("Retry-After", "10")
		s.returnFlash(w, r, page.Flash)
	}
	if page.Title == "" {
		page.Title = http.StatusText(page.status)
	}
	body, err := execute(show, page)
	if err != nil {
		s.WriteProblem(w, r, fmt.Errorf("render the page %s: %w", r.URL.Path, err))
		return
	}
	s.writePage(w, r, page, body)
}

// execute renders a page. An error whose part the page does not have is shown at its top.
func execute(show *template.Template, page Page) ([]byte, error) {
	var body bytes.Buffer
	page.isProblemShown = new(bool)
	err := show.ExecuteTemplate(&body, "layout.html", page)
	if err != nil || page.Problem == nil || page.IsAway() || *page.isProblemShown {
		return body.Bytes(), err
	}
	page.isProblemAtTop = true
	body.Reset()
	err = show.ExecuteTemplate(&body, "layout.html", page)
	return body.Bytes(), err
}

// writePage lets browsers keep a page, and ask whether it has changed, unless it shows a result once.
func (s *Site) writePage(w http.ResponseWriter, r *http.Request, page Page, body []byte) {
	if page.Flash == nil && page.status == http.StatusOK {
		tag := TagOf(string(body))
		w.Header().Set("Cache-Control", "private, no-cache")
		w.Header().Set("ETag", "W/"+tag)
		if IsKnown(r, tag) {
			s.Write(w, r, http.StatusNotModified, "text/html; charset=utf-8", nil)
			return
		}
	}
	s.Write(w, r, page.status, "text/html; charset=utf-8", body)
}

// IsAway means that the database cannot be reached. The page shows nothing else, and reloads by itself.
func (p Page) IsAway() bool { return !p.AwaySince.IsZero() }

// HasDone reports whether this action has just been done.
func (p Page) HasDone(name string) bool { return p.Flash != nil && p.Flash.Done == name }

// ProblemAt is the error to show at a part of the page; the layout shows that of the part "".
func (p Page) ProblemAt(part string) *db.Problem {
	if p.IsAway() || p.Problem == nil {
		return nil
	}
	at := ""
	if p.Flash != nil && p.Flash.Problem == p.Problem && !p.isProblemAtTop {
		at = p.Flash.At
	}
	if at != part {
		return nil
	}
	*p.isProblemShown = true
	return p.Problem
}

// Input is what a field shows: the user's input after an error, or else a value.
func (p Page) Input(name string, value any) string {
	if p.Flash != nil && p.Flash.Form.Has(name) {
		return p.Flash.Form.Get(name)
	}
	return fmt.Sprint(value)
}

// Search is the text in the search field of the navigation.
func (p Page) Search() string { return p.search }

// A place is a screen in the navigation.
type place struct {
	Link
	// Current is page for the shown page, true for one below it, or empty.
	Current string
}

// Places are the screens in the navigation.
func (p Page) Places() []place {
	places := make([]place, len(p.screens))
	for i, screen := range p.screens {
		places[i].Link = Link{Name: screen.Name, URL: screen.Path}
		switch {
		case p.at == screen.Path:
			places[i].Current = "page"
		case screen.Path != "/" && strings.HasPrefix(p.at, screen.Path+"/"):
			places[i].Current = "true"
		}
	}
	return places
}

// Path joins segments of a URL, each escaped. Empty ones are left out.
func Path(segments ...string) string {
	var joined strings.Builder
	for _, segment := range segments {
		if segment == "" {
			continue
		}
		joined.WriteString("/" + url.PathEscape(segment))
	}
	return joined.String()
}
