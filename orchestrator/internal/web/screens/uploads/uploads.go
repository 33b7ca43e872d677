// Package uploads is the screen that turns files into tables, and the log of what was imported.
package uploads

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/kit"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/parts"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/words"
)

//go:embed static templates
var files embed.FS

// Config is what the screen needs from the rest of the program.
type Config struct {
	// Upload streams a file into a table, as the options say. Preview says what that would do, going by the beginning
	// of the file.
	Upload  func(ctx context.Context, pool *sql.DB, file io.Reader, source string, options url.Values) (upload.Import, error)
	Preview func(ctx context.Context, pool *sql.DB, file io.Reader, source string, options url.Values) (upload.Plan, error)
	// MaxUpload is the size limit of an upload in bytes; 0 means no limit.
	MaxUpload int64
	// Slow is how long an upload may send nothing, or too little.
	Slow time.Duration
}

type screen struct {
	Config
	site *kit.Site
}

const (
	// page is the path of the form, part its section.
	page = "/upload"
	part = "upload"
)

// New returns the screen.
func New(site *kit.Site, config Config) kit.Screen {
	s := &screen{Config: config, site: site}
	pages := site.Load(files, parts.Files)
	return kit.Screen{
		Name: "Upload",
		Path: page,
		Routes: map[string]http.HandlerFunc{
			"GET " + page:                    pages.Show("upload.html", s.readForm),
			"POST /upload-file":              s.uploadFile,
			"GET /imports":                   kit.ByAccept(pages.Show("imports.html", s.readImports), s.listImports),
			"GET /imports/{id}":              kit.ByAccept(pages.Show("import.html", s.readImport), s.showImport),
			"GET /imports/{id}/problems.csv": s.showLines,
		},
	}
}

// uploadFile streams the fields "file" of a multipart form into a table as they arrive. With dry_run in the URL
// it only returns what the upload would do.
func (s *screen) uploadFile(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	var limited io.ReadCloser = r.Body
	if s.MaxUpload > 0 {
		limited = http.MaxBytesReader(w, r.Body, s.MaxUpload)
	}
	body := newAheadReader(
		&steadyReader{ReadCloser: limited, control: http.NewResponseController(w), slow: s.Slow}, cancel)
	defer body.Close()
	r = r.WithContext(ctx)
	r.Body = body

	// The page after an error shows what was given.
	options := r.URL.Query()
	r.PostForm = options
	isDry := options.Get("dry_run") != ""
	options.Del("dry_run")

	var imported upload.Import
	var planned preview
	err := s.receive(r, options, func(file io.Reader, source string) (err error) {
		if isDry {
			planned.Source = source
			planned.Plan, err = s.Preview(r.Context(), s.site.DB(r.Context()), file, source, options)
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
		s.refuse(w, r, err)
	case isDry:
		s.showPlan(w, r, planned)
	default:
		s.showDone(w, r, imported)
	}
}

// refuse answers with an error. The page's own script gets it as a program does, and a place to see it.
func (s *screen) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if kit.WantsPage(r) {
		s.site.Refuse(w, r, page, part, err)
		return
	}
	if kit.KeepsCookies(r) {
		problem := s.site.Explain(r, err)
		s.site.LeaveFlash(w, r, page, kit.Flash{Problem: &problem, At: part, Form: r.PostForm})
		w.Header().Set("Location", page)
	}
	s.site.WriteProblem(w, r, err)
}

func (s *screen) showPlan(w http.ResponseWriter, r *http.Request, planned preview) {
	if !kit.WantsPage(r) {
		s.site.WriteJSON(w, r, http.StatusOK, planned.Plan)
		return
	}
	text, err := json.Marshal(planned)
	if err != nil {
		s.site.Refuse(w, r, page, part, fmt.Errorf("keep a preview: %w", err))
		return
	}
	s.site.LeaveFlash(w, r, page, kit.Flash{Done: "preview", Made: map[string]any{"plan": string(text)}, Form: r.PostForm})
	s.site.Redirect(w, r, page+"#"+part)
}

func (s *screen) showDone(w http.ResponseWriter, r *http.Request, imported upload.Import) {
	to := kit.Path("tables", imported.SchemaName+"."+imported.TableName)
	if kit.WantsPage(r) || kit.KeepsCookies(r) {
		s.site.LeaveFlash(w, r, to, kit.Flash{Done: "upload", Made: map[string]any{
			"id": imported.ID, "source": imported.Source, "row_count": imported.RowCount,
			"problem_count": imported.ProblemCount, "took": words.Duration(imported.Took()),
		}})
	}
	if kit.WantsPage(r) {
		s.site.Redirect(w, r, to)
		return
	}
	w.Header().Set("Location", to)
	s.site.WriteJSON(w, r, http.StatusCreated, imported)
}

// A preview is a plan, and the name of the file it is for.
type preview struct {
	Source string      `json:"source"`
	Plan   upload.Plan `json:"plan"`
}

// A form is what the page of the upload shows.
type form struct {
	MaxUpload int64
	// Options are what is given, of the upload.
	Options url.Values
	Modes   []parts.Mode
	Preview *preview
	// Choices are what the file offers: sheets of a workbook, files in a zip.
	Choices []db.Choices
	// Types are the types and forms that can be chosen for a column.
	Types    []string
	Remedies []remedy
	// Recipe is how the file of the preview is imported in psql.
	Recipe *recipe
	Recent []imported
}

const recentImports = 5

func (s *screen) readForm(r *http.Request, shown *kit.Page) (err error) {
	ctx, pool := r.Context(), s.site.DB(r.Context())
	shown.Title = "Upload"
	f := &form{MaxUpload: s.MaxUpload, Options: r.URL.Query()}
	if shown.Flash != nil && shown.Flash.Form != nil {
		f.Options = shown.Flash.Form
	}
	if f.Modes, err = parts.ReadModes(ctx, pool); err != nil {
		return err
	}
	if err := f.readPreview(shown.Flash); err != nil {
		return err
	}
	if f.Preview != nil {
		f.Choices = f.Preview.Plan.Choices
		for i, notice := range f.Preview.Plan.Notices {
			f.Preview.Plan.Notices[i] = parts.InWords(notice)
		}
		if f.Types, err = readTypes(ctx, pool); err != nil {
			return err
		}
		if f.Recipe, err = s.readRecipe(ctx, f); err != nil {
			return err
		}
	}
	if shown.Flash != nil && shown.Flash.Problem != nil {
		if choices := shown.Flash.Problem.Choices; choices != nil {
			f.Choices = []db.Choices{*choices}
		}
		f.Remedies = f.remediesOf(*shown.Flash.Problem)
		shown.Flash.Problem.Hint = parts.InWords(shown.Flash.Problem.Hint)
	}
	f.Recent, err = s.findImports(ctx, "", nil, recentImports, 0)
	shown.Shown = f
	return err
}

func (s *screen) readRecipe(ctx context.Context, f *form) (*recipe, error) {
	planned := &recipe{Source: f.Preview.Source, Mode: f.Options.Get("mode"), Dialect: &f.Preview.Plan.Dialect,
		Columns: f.Preview.Plan.Columns, DistributeBy: f.Options.Get("distribute_by"), Options: f.Options}
	if key := f.Options.Get("key"); key != "" {
		planned.UpsertKey = strings.Split(key, ",")
	}
	err := s.site.DB(ctx).QueryRowContext(ctx, "select coalesce(nullif($1, ''), tinydevcrm._make_table_name($2))",
		f.Options.Get("table"), planned.Source).Scan(&planned.Table)
	if err != nil {
		return nil, fmt.Errorf("name the table of a file: %w", err)
	}
	return planned, nil
}

func (f *form) readPreview(flash *kit.Flash) error {
	if flash == nil || flash.Done != "preview" {
		return nil
	}
	text, _ := flash.Made["plan"].(string)
	f.Preview = &preview{}
	if err := json.Unmarshal([]byte(text), f.Preview); err != nil {
		return fmt.Errorf("read a preview: %w", err)
	}
	return nil
}
