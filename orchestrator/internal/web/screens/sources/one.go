package sources

import (
	"cmp"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/kit"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/parts"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/words"
)

// A run is a row of tinydevcrm._list_source_runs().
type run struct {
	ID, Attempts              int64
	Status, File              string
	ImportNumber              int64
	ByteCount, RowCount       sql.NullInt64
	code, message, advice     string
	CreatedAt                 time.Time
	FinishedAt, NextAttemptAt sql.NullTime
	IsLate                    bool
}

func (r *run) fields() []any {
	return []any{&r.ID, &r.Status, &r.Attempts, &r.File, &r.ImportNumber, &r.ByteCount, &r.RowCount, &r.code, &r.message, &r.advice,
		&r.CreatedAt, &r.FinishedAt, &r.NextAttemptAt, &r.IsLate}
}

// Says is the status as people say it.
func (r run) Says() string {
	switch {
	case r.IsLate && r.Status == "staged":
		return "fetched; the job of the owner has not imported it"
	case r.IsLate:
		return "due; no orchestrator has fetched it"
	case r.Status == "staged":
		return "fetched, waits for the import"
	case r.Status == "waiting":
		return "waits for the next attempt"
	case r.Status == "unchanged":
		return "nothing new"
	}
	return r.Status
}

// Class colours the status.
func (r run) Class() string {
	switch {
	case r.Status == "imported":
		return "good"
	case r.Status == "failed", r.Status == "waiting", r.IsLate:
		return "bad"
	}
	return ""
}

// Took is how long it took; empty while it is open.
func (r run) Took() string {
	if !r.FinishedAt.Valid {
		return ""
	}
	return words.Duration(r.FinishedAt.Time.Sub(r.CreatedAt))
}

// Problem is the last failure, with what to do in the words of the form.
func (r run) Problem() *db.Problem {
	if r.message == "" {
		return nil
	}
	problem := db.ReadProblem(r.message)
	problem.Code = r.code
	problem.Hint = parts.InWords(cmp.Or(problem.Hint, r.advice))
	return &problem
}

// One is what the page of a source shows.
type one struct {
	source
	// Words are the schedule in words.
	Words string
	// TableKey is empty while there is no table.
	TableKey      string
	Key           []string
	Options       []parts.Option
	HeaderNames   []string
	RefuseIfFewer string
	AcceptsEmpty  bool
	IsPaused      bool
	// IsOpen means that a run is under way: the page looks again.
	IsOpen    bool
	CreatedAt time.Time

	Form *form
	Runs []run
	// Older is the URL of the runs before those on the page; empty for none. IsOlder means that there are newer ones.
	Older   string
	IsOlder bool
}

func (s *screen) readOne(r *http.Request, page *kit.Page) error {
	name := r.PathValue("name")
	page.Title = name
	page.Crumbs = []kit.Link{{Name: "Sources", URL: "/sources"}}
	shown := &one{}
	var document []byte
	err := s.site.DB(r.Context()).QueryRowContext(r.Context(), `
		select `+sourceColumns+`, coalesce(words, ''), coalesce(table_key, ''), upsert_key, options, header_names,
		       coalesce(refuse_if_fewer::text, ''), accepts_empty, is_paused, is_open, created_at
		  from (
		    select (source).*, words, table_key, upsert_key, options, header_names, refuse_if_fewer, accepts_empty, is_paused,
		           is_open, created_at
		      from tinydevcrm._describe_source($1)
		  ) as described`, name).Scan(append(shown.source.fields(),
		&shown.Words, &shown.TableKey, pq.Array(&shown.Key), &document, pq.Array(&shown.HeaderNames),
		&shown.RefuseIfFewer, &shown.AcceptsEmpty, &shown.IsPaused, &shown.IsOpen, &shown.CreatedAt)...)
	if errors.Is(err, sql.ErrNoRows) {
		return noSource(name)
	}
	if err != nil {
		return fmt.Errorf("read source %q: %w", name, err)
	}
	page.Title = shown.Name
	options, err := upload.ReadOptions(document)
	if err != nil {
		return err
	}
	shown.Options = form{given: options}.Set()
	if shown.Form, err = s.formOf(r, page, shown.values(options), "settings"); err != nil {
		return err
	}
	shown.Form.HeaderNames = shown.HeaderNames
	page.Shown = shown
	return s.readRuns(r, shown)
}

// values are the settings as the fields of the form.
func (o *one) values(options url.Values) url.Values {
	for field, value := range map[string]string{
		"mode": o.Mode, "key": strings.Join(o.Key, ","), "schedule": o.Schedule, "refuse_if_fewer": o.RefuseIfFewer, "notify_deadline": o.Deadline,
	} {
		options.Set(field, value)
	}
	if o.IsOfInbox() {
		options.Set("url", o.URL)
	}
	options.Set("accepts_empty", strconv.FormatBool(o.AcceptsEmpty))
	return options
}

func (s *screen) readRuns(r *http.Request, shown *one) error {
	before, _ := strconv.ParseInt(r.URL.Query().Get("before"), 10, 64)
	shown.IsOlder = before > 0
	found, err := db.Collect(r.Context(), s.site.DB(r.Context()), fmt.Sprintf("read the runs of %q", shown.Name), (*run).fields, `
		select id, status, attempts, coalesce(filename, ''), coalesce(import_number, 0), byte_count, row_count,
		       coalesce(error_code, ''), coalesce(error_message, ''), coalesce(advice, ''), created_at, finished_at, next_attempt_at, is_late
		  from tinydevcrm._list_source_runs($1, nullif($2, 0), $3)`, shown.Name, before, shownRuns+1)
	shown.Runs = found[:min(len(found), shownRuns)]
	if len(found) > shownRuns {
		shown.Older = fmt.Sprintf("%s?before=%d#runs", pageOf(shown.Name), shown.Runs[shownRuns-1].ID)
	}
	return err
}
