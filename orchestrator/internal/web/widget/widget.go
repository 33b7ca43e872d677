// Package widget shows the rows of a view on other sites. It needs no log-in, and reads only what owners have made
// public.
package widget

import (
	"bytes"
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"time"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/kit"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/words"
)

//go:embed static templates
var files embed.FS

// patience is how long a request waits for its turn.
const patience = 10 * time.Second

type server struct {
	site     *kit.Site
	template *template.Template
	// turns are one: widgets share a connection, so that they take none from the users.
	turns *kit.Slots
}

// Routes are those of the widgets, by their patterns.
func Routes(site *kit.Site) map[string]http.HandlerFunc {
	site.AddFiles(files)
	s := &server{site: site, turns: kit.NewSlots("widgets", 1, patience)}
	s.template = template.Must(template.New("").Funcs(template.FuncMap{
		"static":   site.Static,
		"isoTime":  func(at time.Time) string { return at.Format(time.RFC3339Nano) },
		"showTime": func(at time.Time) string { return at.UTC().Format("2006-01-02 15:04:05 UTC") },
	}).ParseFS(files, "templates/*.html"))
	return map[string]http.HandlerFunc{
		"GET /embed/{matview}": s.show,
		"GET /theme.css":       s.serveTheme,
	}
}

// A widget is the rows of a view on another site. It is read from tinydevcrm.embeds only, which holds what the
// owner has made public.
type widget struct {
	options
	Tag         string
	Columns     []struct{ Name, Type string }
	Rows        [][]kit.Cell
	Count       int64
	RefreshedAt sql.NullTime
	Problem     *db.Problem

	id, version int64
	name        string
	origins     []string
}

// show answers everyone: everyone who has the address may read it. The origins only limit the sites on
// which browsers show it.
func (s *server) show(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Referrer-Policy", "no-referrer")
	body, err := s.render(w, r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	status := http.StatusOK
	if body == nil {
		status = http.StatusNotModified
	}
	s.site.Write(w, r, status, "text/html; charset=utf-8", body)
}

// render returns the page of a widget; nil when the client already has it.
func (s *server) render(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	release, err := s.turns.Take(r.Context())
	if err != nil {
		return nil, err
	}
	defer release()
	ctx, cancel := context.WithTimeout(r.Context(), kit.ReadTimeout)
	defer cancel()

	shown, err := s.find(ctx, r.PathValue("matview"))
	if err != nil {
		return nil, err
	}
	letFrame(w.Header(), shown.origins)
	if shown.options, err = parseOptions(r.URL.RawQuery); err != nil {
		return nil, err
	}
	shown.Tag = kit.TagOf(shown.id, shown.version, shown.name, r.URL.RawQuery, s.site.Look())
	w.Header().Set("ETag", shown.Tag)
	w.Header().Set("Cache-Control", "no-cache")
	if kit.IsKnown(r, shown.Tag) {
		return nil, nil
	}

	if err := s.read(ctx, shown); err != nil {
		return nil, err
	}
	var body bytes.Buffer
	if err := s.template.ExecuteTemplate(&body, "embed.html", shown); err != nil {
		return nil, fmt.Errorf("render a widget: %w", err)
	}
	return body.Bytes(), nil
}

// letFrame allows browsers to show the page within those of other sites, with a policy as strict as that of the
// page.
func letFrame(header http.Header, origins []string) {
	header.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; "+
		"connect-src 'self'; img-src 'self'; form-action 'none'; base-uri 'none'; "+
		"frame-ancestors "+strings.Join(origins, " "))
	header.Del("X-Frame-Options")
	// A site with cross-origin isolation shows only frames that send these headers.
	header.Set("Cross-Origin-Resource-Policy", "cross-origin")
	header.Set("Cross-Origin-Embedder-Policy", "require-corp")
}

// find returns the same error for a view that does not exist as for one that is not public.
func (s *server) find(ctx context.Context, name string) (*widget, error) {
	found := &widget{}
	// A name that Postgres cannot read is the name of no view either.
	name = strings.ToValidUTF8(strings.ReplaceAll(name, "\x00", "\xff"), "\uFFFD")
	err := s.site.Pool.QueryRowContext(ctx, `
		select embeds.matview_id,
		       embeds.version,
		       embeds.origins,
		       relname
		  from tinydevcrm.embeds
		  join pg_catalog.pg_class
		    on pg_class.oid = embeds.relation
		 where embeds.matview_id = tinydevcrm._find_embed($1)`, name).
		Scan(&found.id, &found.version, pq.Array(&found.origins), &found.name)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, &db.UserError{
			Status:  http.StatusNotFound,
			Message: "there is no public view at this address",
			Hint:    "Its owner has not made it public, or has made it private again.",
		}
	}
	if err != nil {
		return nil, fmt.Errorf("find a widget: %w", err)
	}
	return found, nil
}

func (s *server) read(ctx context.Context, shown *widget) error {
	var columns, rows []byte
	err := s.site.Pool.QueryRowContext(ctx, `
		select columns,
		       rows,
		       row_count,
		       refreshed_at
		  from tinydevcrm.embeds
		 where matview_id = $1`, shown.id).
		Scan(&columns, &rows, &shown.Count, &shown.RefreshedAt)
	if err != nil {
		return fmt.Errorf("read a widget: %w", err)
	}

	// Users can write these rows for their own views. Anything but rows is shown as none.
	var values [][]*string
	_ = json.Unmarshal(columns, &shown.Columns)
	_ = json.Unmarshal(rows, &values)
	for _, row := range values[:min(len(values), shown.rowLimit)] {
		cells := make([]kit.Cell, len(row))
		for i, value := range row {
			cells[i].IsNull = value == nil
			if value != nil {
				cells[i].Text = kit.Shorten(*value)
			}
		}
		shown.Rows = append(shown.Rows, cells)
	}
	return nil
}

// fail answers with an error. Sites may show it in a frame only if they may show the widget.
func (s *server) fail(w http.ResponseWriter, r *http.Request, err error) {
	w.Header().Del("ETag")
	w.Header().Set("Cache-Control", "no-store")
	if !kit.WantsPage(r) {
		s.site.WriteProblem(w, r, err)
		return
	}
	problem := s.site.Explain(r, err)
	var body bytes.Buffer
	if err := s.template.ExecuteTemplate(&body, "embed.html", &widget{Problem: &problem}); err != nil {
		s.site.WriteProblem(w, r, fmt.Errorf("render a widget: %w", err))
		return
	}
	s.site.Write(w, r, problem.Status, "text/html; charset=utf-8", body.Bytes())
}

// Title is the title of the page.
func (w *widget) Title() string {
	switch {
	case w.Problem != nil:
		return "Not public"
	case w.Label != "":
		return w.Label
	}
	return w.name
}

// Number is the value of a widget that shows one: the first value of the first row; nil when there is none.
func (w *widget) Number() *kit.Cell {
	if len(w.Rows) == 0 || len(w.Rows[0]) == 0 {
		return nil
	}
	return &w.Rows[0][0]
}

// More says how many rows there are in addition to those shown.
func (w *widget) More() string {
	if more := w.Count - int64(len(w.Rows)); more > 0 && len(w.Rows) > 0 {
		return "and " + words.Group(more) + " more"
	}
	return ""
}
