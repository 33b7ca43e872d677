package sources

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/kit"
)

// on is an action on an existing source, At a part of its page, which calls one function.
func on(name, says, at, call string, fields ...string) kit.Action {
	return kit.Action{
		Name: name, Says: says, At: at,
		Required: []string{"source"},
		Fields:   append([]string{"source"}, fields...),
		Query:    "select json_build_object('source', $1::text) from " + call,
		Screen:   func(form url.Values) string { return pageOf(form.Get("source")) },
	}
}

func (s *screen) actions() map[string]kit.Action {
	dropping := on("drop", "drop a source", "drop", "tinydevcrm.drop_source($1)")
	dropping.Next = func(url.Values, map[string]any) string { return "/sources" }
	altering := on("alter", "change a source", "settings", "")
	altering.Work = s.alter
	return map[string]kit.Action{
		"POST /sources": {
			Name: "create", Says: "create a source", At: "new",
			Required: []string{"source", "url"},
			Work:     s.create,
			Status:   http.StatusCreated,
			Screen:   func(url.Values) string { return "/sources/new" },
			Next:     func(form url.Values, _ map[string]any) string { return pageOf(form.Get("source")) },
		},
		"POST /sources/check": {
			Name: "check", Says: "check a source", At: "new",
			Required:   []string{"source", "url"},
			Work:       s.fetch,
			Screen:     func(url.Values) string { return "/sources/new" },
			KeepsInput: true,
		},
		"POST /sources/alter":  altering,
		"POST /sources/run":    on("run", "fetch a source", "state", "tinydevcrm.run_source($1, coalesce($2 = 'true', false))", "force"),
		"POST /sources/pause":  on("pause", "pause a source", "state", "tinydevcrm.pause_source($1)"),
		"POST /sources/resume": on("resume", "resume a source", "state", "tinydevcrm.resume_source($1)"),
		"POST /sources/drop":   dropping,
	}
}

// A request is what a form says about a source.
type request struct {
	upload.Request
	// Options are those of the import, as JSON.
	Options string
	// Headers are lines of headers, nil when none is given.
	Headers *string
}

// optionFields are the fields of a form that are options of an import.
func optionFields() []string {
	var names []string
	for _, option := range upload.Options() {
		names = append(names, option.Name)
	}
	return names
}

func requestOf(form url.Values) (request, error) {
	values, known := maps.Clone(form), optionFields()
	maps.DeleteFunc(values, func(name string, _ []string) bool { return !slices.Contains(known, name) })
	var asked request
	var err error
	asked.Request, asked.Options, err = upload.StoreOptions(form.Get("source"), values)
	if lines := headersOf(form); lines != "" {
		asked.Headers = &lines
	}
	return asked, err
}

// headersOf are the headers of a form as lines, with that of HTTP Basic.
func headersOf(form url.Values) string {
	lines := form.Get("headers")
	if user := form.Get("user"); user != "" {
		basic := http.Request{Header: make(http.Header)}
		basic.SetBasicAuth(user, form.Get("password"))
		lines += "\nAuthorization: " + basic.Header.Get("Authorization")
	}
	return lines
}

// createSource creates a source as createArguments say, and returns its number.
const createSource = `
	select tinydevcrm.create_source(
	           $1, $2, $3, coalesce(nullif($4, ''), 'replace'), $5::text[], $6::jsonb, nullif($7, ''),
	           coalesce(tinydevcrm._parse_headers($8), '{}'), nullif($9, '')::numeric, coalesce($10::boolean, false),
	           coalesce(nullif($11, ''), '0')::interval)`

func createArguments(form url.Values, asked request) []any {
	return append([]any{form.Get("source"), form.Get("url"), asked.Table, asked.Mode, pq.Array(asked.Key), asked.Options, form.Get("schedule"), asked.Headers},
		kit.Arguments(form, "refuse_if_fewer", "accepts_empty", "notify_deadline")...)
}

func (s *screen) create(ctx context.Context, form url.Values) (any, error) {
	asked, err := requestOf(form)
	if err != nil {
		return nil, err
	}
	var id int64
	err = s.site.DB(ctx).QueryRowContext(ctx, createSource, createArguments(form, asked)...).Scan(&id)
	if err != nil {
		return nil, fmt.Errorf("create a source: %w", err)
	}
	return map[string]any{"source": form.Get("source"), "id": strconv.FormatInt(id, 10)}, nil
}

// fetch checks all that creating the source would, fetches the file, and says what its import would do.
func (s *screen) fetch(ctx context.Context, form url.Values) (any, error) {
	asked, err := requestOf(form)
	if err != nil {
		return nil, err
	}
	headers, options, err := s.tryCreate(ctx, form, asked)
	if err != nil {
		return nil, err
	}
	var seen found
	seen.File, seen.Plan, err = s.check(ctx, s.site.DB(ctx), form.Get("url"), headers, form.Get("source"), options)
	if problem := db.Explain(err); problem.Code == "TD013" {
		return nil, s.advise(ctx, problem)
	}
	if err != nil {
		return nil, fmt.Errorf("check a source: %w", err)
	}
	return seen, nil
}

// tryCreate creates a source for the time of a transaction, and returns its headers and the options of its imports.
func (s *screen) tryCreate(ctx context.Context, form url.Values, asked request) (headers map[string]string, options url.Values, err error) {
	tx, err := s.site.DB(ctx).BeginTx(ctx, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("check a source: %w", err)
	}
	defer tx.Rollback()
	var id int64
	if err := tx.QueryRowContext(ctx, createSource, createArguments(form, asked)...).Scan(&id); err != nil {
		return nil, nil, fmt.Errorf("check a source: %w", err)
	}
	var document []byte
	var table, mode string
	var key []string
	if err := tx.QueryRowContext(ctx, `
		select headers, table_name::text, mode, key, options || tinydevcrm._list_shape_options(options)
		  from tinydevcrm.sources
		 where id = $1`, id).Scan(db.JSON(&headers), &table, &mode, pq.Array(&key), &document); err != nil {
		return nil, nil, fmt.Errorf("check a source: %w", err)
	}
	options, err = upload.ReadOptions(document)
	if err != nil {
		return nil, nil, err
	}
	options.Set("table", table)
	options.Set("mode", mode)
	options["key"] = key
	return headers, options, nil
}

// advise is a problem with what to do.
func (s *screen) advise(ctx context.Context, problem db.Problem) error {
	told := &db.UserError{Status: problem.Status, Code: problem.Code, Message: problem.Message}
	err := s.site.DB(ctx).QueryRowContext(ctx, "select coalesce(tinydevcrm._advise_run($1, $2), '')", problem.Code, problem.Message).Scan(&told.Hint)
	return errors.Join(told, err)
}

// alter changes a source. Of its options it keeps those that the form does not have.
func (s *screen) alter(ctx context.Context, form url.Values) (any, error) {
	asked, err := requestOf(form)
	if err != nil {
		return nil, err
	}
	var sent []string
	for _, name := range optionFields() {
		if form.Has(name) {
			sent = append(sent, name)
		}
	}
	var name string
	err = s.site.DB(ctx).QueryRowContext(ctx, `
		select sources.name
		  from tinydevcrm.sources
		 cross join lateral tinydevcrm.alter_source(
		           sources.name, nullif($2, ''),
		           case when $3::boolean then '{}' else tinydevcrm._parse_headers($4) end,
		           (sources.options - $5::text[]) || $6::jsonb, $8,
		           case $9::text when '' then '0' else $9 end::numeric,
		           case $10::text when '' then '0' else $10 end::interval,
		           nullif($11, ''), $7::text[], $12::boolean)
		 where sources.id = tinydevcrm._find_own_source($1)`,
		append([]any{form.Get("source"), form.Get("url"), form.Get("no_headers") == "true", asked.Headers, pq.Array(sent), asked.Options, pq.Array(asked.Key)},
			kit.Arguments(form, "schedule", "refuse_if_fewer", "notify_deadline", "mode", "accepts_empty")...)...).Scan(&name)
	if err != nil {
		return nil, fmt.Errorf("change a source: %w", err)
	}
	return map[string]any{"source": name}, nil
}
