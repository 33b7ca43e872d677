// Package sources is the screen of the user's own sources: where files come from again and again, and how their runs went.
package sources

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/kit"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/parts"
)

//go:embed static templates
var files embed.FS

const (
	shownSources = 50
	shownRuns    = 20
)

// A CheckFunc is source.Runner.Preview.
type CheckFunc func(ctx context.Context, pool *sql.DB, address string, headers map[string]string, name string, options url.Values) (file string, plan upload.Plan, err error)

type screen struct {
	site *kit.Site
	// check fetches a file, and says what an import of it would do.
	check CheckFunc
}

// New returns the screen.
func New(site *kit.Site, check CheckFunc) kit.Screen {
	s := &screen{site: site, check: check}
	pages := site.Load(files, parts.Files)
	routes := map[string]http.HandlerFunc{
		"GET /sources":        kit.ByAccept(pages.Show("list.html", s.readList), s.writeList),
		"GET /sources/new":    pages.Show("new.html", s.readNew),
		"GET /sources/{name}": kit.ByAccept(pages.Show("source.html", s.readOne), s.writeOne),
	}
	for pattern, action := range s.actions() {
		routes[pattern] = site.Do(action)
	}
	return kit.Screen{Name: "Sources", Path: "/sources", Routes: routes}
}

// pageOf is the page of a source.
func pageOf(name string) string { return kit.Path("sources", name) }

// A source is a row of tinydevcrm.source_status.
type source struct {
	// URL is as lists show it, without what may be a secret.
	Name, URL, Table, Mode, Schedule, Status string
	IsTroubled                               bool
	LastRun                                  string
	NextDueAt, NextAttemptAt                 sql.NullTime
	CheckedAt, ImportedAt, FailingSince      sql.NullTime
	RowCount, ImportNumber                   sql.NullInt64
	Deadline                                 string

	message string
}

const sourceColumns = `
	name, url, table_name, mode, coalesce(schedule, ''), status, is_troubled, coalesce(last_run, ''), coalesce(error_message, ''),
	next_due_at, next_attempt_at, checked_at, imported_at, failing_since, row_count, import_number, coalesce(notify_deadline::text, '')`

func (s *source) fields() []any {
	return []any{&s.Name, &s.URL, &s.Table, &s.Mode, &s.Schedule, &s.Status, &s.IsTroubled, &s.LastRun, &s.message,
		&s.NextDueAt, &s.NextAttemptAt, &s.CheckedAt, &s.ImportedAt, &s.FailingSince, &s.RowCount, &s.ImportNumber, &s.Deadline}
}

// Reason is why it needs attention, on one line.
func (s source) Reason() string {
	switch s.Status {
	case "failing":
		return s.Failure()
	case "late":
		return "nothing has fetched it, or nothing has imported what was fetched"
	case "silent":
		return "nothing new has come for " + s.Deadline
	}
	return ""
}

// Failure is why the last attempt failed, on one line; empty if it did not.
func (s source) Failure() string { return db.ReadProblem(s.message).Message }

// IsUnderWay means that a run is open.
func (s source) IsUnderWay() bool {
	return slices.Contains([]string{"due", "fetching", "waiting", "staged"}, s.LastRun)
}

// HasSecretURL reports whether URL is shortened.
func (s source) HasSecretURL() bool { return !s.IsOfInbox() }

// IsOfInbox means that its files are in a folder of the orchestrator.
func (s source) IsOfInbox() bool { return strings.HasPrefix(s.URL, "file:") }

type list struct {
	kit.List
	Sources []source
}

// IsBusy means that something will change soon: the page looks again.
func (l list) IsBusy() bool { return slices.ContainsFunc(l.Sources, source.IsUnderWay) }

func (s *screen) readList(r *http.Request, page *kit.Page) error {
	page.Title = "Sources"
	shown := &list{List: kit.ListOf(r.URL, shownSources, "name")}
	found, err := db.Collect(r.Context(), s.site.DB(r.Context()), "list the sources", (*source).fields, `
		select `+sourceColumns+`
		  from tinydevcrm._list_sources($1, $2, $3, $4, $5)`,
		shown.Search, shown.Sort, shown.IsDescending, shown.Limit(), shown.Offset())
	if err != nil {
		return err
	}
	shown.Sources = kit.Cut(&shown.List, found)
	page.Shown = shown
	return nil
}

// writeList answers a program with the sources that it may see.
func (s *screen) writeList(w http.ResponseWriter, r *http.Request) {
	s.writeQuery(w, r, `
		select coalesce(json_agg(row_to_json(source_status) order by name), '[]')
		  from tinydevcrm.source_status
		 where tinydevcrm._may_see(owner)`)
}

// writeOne answers a program with a source and its last runs.
func (s *screen) writeOne(w http.ResponseWriter, r *http.Request) {
	s.writeQuery(w, r, `
		select json_build_object(
		           'source', (described.source).name,
		           'status', row_to_json(described.source),
		           'upsert_key', described.upsert_key,
		           'options', described.options,
		           'header_names', described.header_names,
		           'refuse_if_fewer', described.refuse_if_fewer,
		           'accepts_empty', described.accepts_empty,
		           'runs', (
		               select coalesce(json_agg(row_to_json(runs) order by runs.id desc), '[]')
		                 from tinydevcrm._list_source_runs((described.source).name, null, $2) as runs
		           ))
		  from tinydevcrm._describe_source($1) as described`, r.PathValue("name"), shownRuns)
}

func (s *screen) writeQuery(w http.ResponseWriter, r *http.Request, query string, arguments ...any) {
	answer, err := db.Collect(r.Context(), s.site.DB(r.Context()), "read sources", func(text *[]byte) []any { return []any{text} }, query, arguments...)
	if err == nil && len(answer) == 0 {
		err = noSource(r.PathValue("name"))
	}
	if err != nil {
		s.site.WriteProblem(w, r, err)
		return
	}
	s.site.Write(w, r, http.StatusOK, "application/json; charset=utf-8", append(answer[0], '\n'))
}

func noSource(name string) error {
	return &db.UserError{
		Status:  http.StatusNotFound,
		Code:    "TD001",
		Message: fmt.Sprintf("there is no source %s of yours", name),
		Hint:    "The list of sources has yours.",
	}
}

// A form is what the fields of a source show.
type form struct {
	given url.Values
	Modes []parts.Mode
	// HeaderNames are those of the headers that are kept.
	HeaderNames []string
	// HasLostSecrets means that secrets were typed, which no page shows again.
	HasLostSecrets bool
}

// Given is what a field shows.
func (f form) Given(name string) string { return strings.Join(f.given[name], "; ") }

// Groups are the options of the import. The table of a source keeps its columns by default, so that views on it stay.
func (f form) Groups() []parts.OptionGroup {
	groups := parts.FillOptions("source-", f.Given)
	for _, group := range groups {
		for i, option := range group.Options {
			if option.Name == "keep_table" {
				group.Options[i].Choices = []parts.Choice{{Label: "stay, with their types"}, {Value: "no", Label: "become those of the file"}}
			}
		}
	}
	return groups
}

// Set are the options that are set.
func (f form) Set() (set []parts.Option) {
	for _, group := range f.Groups() {
		for _, option := range group.Options {
			if option.Given != "" {
				set = append(set, option)
			}
		}
	}
	return set
}

// formOf is the form with what was typed, if that was at this part of the page, or else with these values.
func (s *screen) formOf(r *http.Request, page *kit.Page, values url.Values, at string) (*form, error) {
	shown := &form{given: values}
	var err error
	if shown.Modes, err = s.readModes(r); err != nil {
		return nil, err
	}
	if flash := page.Flash; flash != nil && flash.Form != nil && (flash.At == at || page.HasDone("check")) {
		shown.given = flash.Form
		shown.HasLostSecrets = flash.Form.Get("headers") != "" || flash.Form.Get("password") != ""
	}
	return shown, nil
}

// readModes reads the modes that suit a file that comes again.
func (s *screen) readModes(r *http.Request) (modes []parts.Mode, err error) {
	found, err := parts.ReadModes(r.Context(), s.site.DB(r.Context()))
	for _, mode := range found {
		if mode.Name != "create" {
			modes = append(modes, mode)
		}
	}
	return modes, err
}

// A newSource is what the page of a new source shows.
type newSource struct {
	*form
	Found *found
}

// found is what a check has found.
type found struct {
	File string      `json:"file"`
	Plan upload.Plan `json:"plan"`
}

func (s *screen) readNew(r *http.Request, page *kit.Page) error {
	page.Title = "New source"
	page.Crumbs = []kit.Link{{Name: "Sources", URL: "/sources"}}
	asked, err := s.formOf(r, page, r.URL.Query(), "new")
	if err != nil {
		return err
	}
	shown := &newSource{form: asked}
	if flash := page.Flash; flash != nil && flash.Problem != nil {
		flash.Problem.Hint = parts.InWords(flash.Problem.Hint)
	}
	if page.HasDone("check") {
		shown.Found = &found{}
		text, _ := json.Marshal(page.Flash.Made)
		if err := json.Unmarshal(text, shown.Found); err != nil {
			return fmt.Errorf("read what a check has found: %w", err)
		}
		for i, notice := range shown.Found.Plan.Notices {
			shown.Found.Plan.Notices[i] = parts.InWords(notice)
		}
	}
	page.Shown = shown
	return nil
}
