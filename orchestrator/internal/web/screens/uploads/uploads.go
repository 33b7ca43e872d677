// Package uploads is the screen on which files become tables: the form with its options, the preview, and the upload
// itself.
package uploads

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/kit"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/words"
)

//go:embed static templates
var files embed.FS

// SlowTimeout is how long an upload may send nothing, or less than slowRate bytes a second.
const SlowTimeout = 30 * time.Second

// formPart is the part of the page that shows what went wrong.
const formPart = "upload"

// A Loader imports files, as the options say.
type Loader struct {
	// Upload streams a file into a table.
	Upload func(ctx context.Context, pool *sql.DB, file io.Reader, source string, options url.Values) (upload.Import, error)
	// Preview says what Upload would do, going by the beginning of the file.
	Preview func(ctx context.Context, pool *sql.DB, file io.Reader, source string, options url.Values) (upload.Plan, error)
	// MaxBytes is the size limit of an upload; 0 means no limit.
	MaxBytes int64
	// Slow is how long an upload may be slow.
	Slow time.Duration
}

type screen struct {
	Loader
	site *kit.Site
}

// New returns the screen.
func New(site *kit.Site, loader Loader) kit.Screen {
	s := &screen{Loader: loader, site: site}
	pages := site.Load(files)
	return kit.Screen{
		Name: "Upload",
		Path: "/upload",
		Routes: map[string]http.HandlerFunc{
			"GET /upload":                    pages.Show("upload.html", s.readForm),
			"POST /upload-file":              s.uploadFile,
			"GET /imports/{id}/problems.csv": s.showProblems,
		},
	}
}

// uploadFile streams the fields "file" of a multipart form into a table as they arrive. With dry_run in the URL
// it only returns what the upload would do.
func (s *screen) uploadFile(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	var limited io.ReadCloser = r.Body
	if s.MaxBytes > 0 {
		limited = http.MaxBytesReader(w, r.Body, s.MaxBytes)
	}
	body := newAheadReader(
		&steadyReader{ReadCloser: limited, control: http.NewResponseController(w), slow: s.Slow}, cancel)
	defer body.Close()
	r = r.WithContext(ctx)
	r.Body = body

	options := r.URL.Query()
	isDry := options.Get("dry_run") != ""
	options.Del("dry_run")

	var plan upload.Plan
	var imported upload.Import
	err := s.receiveFile(r, options, func(file io.Reader, source string) (err error) {
		if isDry {
			plan, err = s.Preview(r.Context(), s.site.DB(r.Context()), file, source, options)
			return err
		}
		imported, err = s.Upload(r.Context(), s.site.DB(r.Context()), file, source, options)
		return err
	})
	if err != nil || isDry {
		body.drain(r)
	}
	switch {
	case err != nil:
		s.refuse(w, r, options, err)
	case isDry:
		s.answerPreview(w, r, options, plan)
	default:
		s.answerUpload(w, r, imported)
	}
}

// refuse answers with an error: a browser is redirected to the form.
func (s *screen) refuse(w http.ResponseWriter, r *http.Request, options url.Values, err error) {
	if !kit.WantsPage(r) {
		s.site.WriteProblem(w, r, err)
		return
	}
	problem := s.site.Explain(r, err)
	s.site.LeaveFlash(w, r, "/upload", kit.Flash{Problem: &problem, At: formPart, Form: options})
	s.site.Redirect(w, r, "/upload")
}

func (s *screen) answerPreview(w http.ResponseWriter, r *http.Request, options url.Values, plan upload.Plan) {
	if !kit.WantsPage(r) {
		s.site.WriteJSON(w, r, http.StatusOK, plan)
		return
	}
	s.site.LeaveFlash(w, r, "/upload", kit.Flash{Done: "preview", Made: map[string]any{"plan": plan}, Form: options})
	s.site.Redirect(w, r, "/upload")
}

// answerUpload leads a browser to the table. The page's own script follows the Location in a program's answer.
func (s *screen) answerUpload(w http.ResponseWriter, r *http.Request, imported upload.Import) {
	to := kit.Path("tables", imported.SchemaName+"."+imported.TableName)
	s.site.LeaveFlash(w, r, to, kit.Flash{Done: "upload", Made: map[string]any{
		"rows": kit.Count(imported.RowCount, "row"), "source": imported.Source, "took": words.Duration(imported.Took()),
	}})
	if kit.WantsPage(r) {
		s.site.Redirect(w, r, to)
		return
	}
	w.Header().Set("Location", to)
	s.site.WriteJSON(w, r, http.StatusCreated, imported)
}

// A mode is a row of tinydevcrm.import_modes.
type mode struct{ Name, Label string }

func (m *mode) fields() []any { return []any{&m.Name, &m.Label} }

// A form is what the page shows.
type form struct {
	// Modes are what an upload can do with an existing table.
	Modes []mode
	// Options are those of the upload; Plan is its preview, if one was requested, and Types what its columns can be.
	Options  url.Values
	Plan     *upload.Plan
	Types    []string
	MaxBytes int64
}

func (s *screen) readForm(r *http.Request, page *kit.Page) error {
	page.Title = "Upload"
	shown := &form{Options: r.URL.Query(), MaxBytes: s.MaxBytes}
	if page.Flash != nil && page.Flash.Form != nil {
		shown.Options = page.Flash.Form
	}
	if page.HasDone("preview") {
		plan, _ := page.Flash.Made["plan"].(upload.Plan)
		shown.Plan = &plan
	}
	pool := s.site.DB(r.Context())
	var err error
	shown.Modes, err = db.Collect(r.Context(), pool, "read the modes", (*mode).fields,
		"select name, label from tinydevcrm.import_modes order by rank")
	if err != nil {
		return err
	}
	if shown.Plan != nil {
		// Each once.
		err = pool.QueryRowContext(r.Context(), `
			select array_agg(name order by list, rank)
			  from (
			    select 1 as list, min(rank) as rank, type_name as name
			      from tinydevcrm.csv_types
			     group by type_name
			    union all
			    select 2, rank, name
			      from tinydevcrm.csv_forms
			  ) as choices`).Scan(pq.Array(&shown.Types))
		if err != nil {
			return fmt.Errorf("read the types of columns: %w", err)
		}
	}
	page.Shown = shown
	return nil
}
