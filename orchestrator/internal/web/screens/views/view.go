package views

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/kit"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/parts"
)

const (
	shownRows       = 50
	shownEvents     = 5
	shownSubscribed = 20
)

func contextOf(r *http.Request) (context.Context, context.CancelFunc) {
	return context.WithTimeout(r.Context(), kit.ReadTimeout)
}

// findView finds a watched view for its download.
func findView(ctx context.Context, tx *sql.Tx, names []string) (found parts.Relation, place int, err error) {
	err = tx.QueryRowContext(ctx, `
		select relation::oid::bigint, place, key, name, version
		  from tinydevcrm._describe_view($1)`, pq.Array(names)).
		Scan(&found.OID, &place, &found.Name, &found.BareName, &found.Version)
	return found, place, err
}

// A read is a table or view that a view reads.
type read struct{ Kind, Key, Name string }

func (d *read) fields() []any { return []any{&d.Kind, &d.Key, &d.Name} }

// URL leads to its page; empty for what has none.
func (d read) URL() string {
	if d.Kind == "table" || d.Kind == "view" {
		return kit.Path(d.Kind+"s", d.Key)
	}
	return ""
}

// A subscribed one is a row of tinydevcrm._list_subscribed().
type subscribed struct {
	Name, Status        string
	IsTroubled, GetsAll bool
}

func (s *subscribed) fields() []any { return []any{&s.Name, &s.Status, &s.IsTroubled, &s.GetsAll} }

// A dependent is what reads the view, and has to be dropped first. Key is empty for what is not a watched view.
type dependent struct{ Kind, Name, Key string }

func (d *dependent) fields() []any { return []any{&d.Kind, &d.Name, &d.Key} }

// A notifyRule is a row of tinydevcrm.notify_rules.
type notifyRule struct{ Name, Label, Description string }

func (r *notifyRule) fields() []any { return []any{&r.Name, &r.Label, &r.Description} }

// A ruleChoice is what a form shows to choose a rule from. Suggests means that the database may choose.
type ruleChoice struct {
	Rules    []notifyRule
	Chosen   string
	Suggests bool
}

// A description says in words when a schedule is due.
type description struct {
	Words     string      `json:"words"`
	TimeZone  string      `json:"time_zone"`
	NextDueAt []time.Time `json:"next_due_at"`
}

// A replay says when a rule would have notified, as tinydevcrm._try_rule() does.
type replay struct {
	Since   time.Time `json:"since"`
	Count   int64     `json:"count"`
	Unknown int64     `json:"unknown_count"`
	// Newest are the last of these refreshes, newest first.
	Newest []struct {
		EventID   int64     `json:"event_id"`
		StartedAt time.Time `json:"started_at"`
		Why       string    `json:"why"`
		RowCount  *int64    `json:"row_count"`
	} `json:"newest"`
}

// A shownView is what the page of a view shows.
type shownView struct {
	view
	Query      string
	Reads      []read
	Subscribed []subscribed
	Dependents []dependent
	Rules      []notifyRule
	// Notified is the event whose link led here; nil for none.
	Notified *parts.Event
	Events   []parts.Event
	// Rows are nil when they could not be read.
	Rows *parts.Rows
	// When is the schedule in words. Typed is a schedule whose words the user has asked for.
	When  *description
	Typed string
	// Replay is when a rule would have notified, if that was asked for by these parameters of the URL.
	Replay     *replay
	parameters url.Values
	// Site is the URL of this server, as the user's browser knows it.
	Site string
}

// Given is the value of a field of the rule: that in the URL, or else that of the view.
func (v shownView) Given(name string, value any) string {
	if v.parameters.Has("replay") && v.parameters.Has(name) {
		return v.parameters.Get(name)
	}
	return fmt.Sprint(value)
}

// RulesWith is what the form for the rule shows.
func (v shownView) RulesWith(chosen string) ruleChoice {
	return ruleChoice{Rules: v.Rules, Chosen: chosen}
}

// Widget is the URL of the widget.
func (v shownView) Widget() string { return v.Site + "/embed/" + url.PathEscape(v.Key) }

// Sites are those that may show the widget, one per line.
func (v shownView) Sites() string { return strings.Join(v.Origins, "\n") }

// SitesArray is them as an SQL array; an example when there are none.
func (v shownView) SitesArray() string {
	if len(v.Origins) == 0 {
		return "{https://example.com}"
	}
	return "{" + strings.Join(v.Origins, ",") + "}"
}

// Example is the schedule that the form shows.
func (v shownView) Example() string {
	switch {
	case v.Typed != "":
		return v.Typed
	case v.Schedule != "":
		return v.Schedule
	case v.UntrackedReason == "":
		return "on change"
	}
	return "every 10 minutes"
}

// findOne reads a view by its name.
func (s *screen) findOne(r *http.Request, page *kit.Page) (*view, error) {
	ctx, pool := r.Context(), s.site.DB(r.Context())
	name := r.PathValue("name")
	page.Title = name
	page.Crumbs = []kit.Link{{Name: "Views", URL: "/views"}}
	found, err := db.Collect(ctx, pool, "find a view", (*view).fields, viewColumns+`
		  from tinydevcrm._find_matviews((select key from tinydevcrm._describe_view(array[$1])), null, 0)`, name)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, &db.UserError{
			Status:  http.StatusNotFound,
			Code:    "TD001",
			Message: fmt.Sprintf("there is no view %s that you may see", name),
			Hint:    "The list of views has those that exist. To see a view of another role, log in as that role.",
		}
	}
	page.Title = found[0].Relation
	return &found[0], nil
}

func (s *screen) readView(r *http.Request, page *kit.Page) error {
	found, err := s.findOne(r, page)
	if err != nil {
		return err
	}
	one := []view{*found}
	if err := s.readCharts(r, one); err != nil {
		return err
	}
	shown := &shownView{view: one[0], parameters: r.URL.Query(), Typed: r.URL.Query().Get("schedule"), Site: kit.SiteOf(r)}
	if err := s.readAround(r, shown); err != nil {
		return err
	}
	page.Shown = shown
	if err := s.readAnswers(r, shown); err != nil || !shown.IsOwn {
		return err
	}
	// This comes last, because a view that is being refreshed may be locked. With a wrong filter, the rest is shown.
	shown.Rows, err = parts.ReadRows(r.Context(), s.site.DB(r.Context()), shown.Key, r.URL, shownRows)
	return err
}

// readAround reads what belongs to a view but its rows.
func (s *screen) readAround(r *http.Request, shown *shownView) (err error) {
	ctx, pool := r.Context(), s.site.DB(r.Context())
	err = pool.QueryRowContext(ctx, "select tinydevcrm._show_query($1::text::regclass)", shown.Key).Scan(&shown.Query)
	if err != nil {
		return fmt.Errorf("read the query of %s: %w", shown.Key, err)
	}
	if shown.Reads, err = db.Collect(ctx, pool, "list what a view reads", (*read).fields, `
		select kind, key, relation::text
		  from tinydevcrm._describe_reads($1::text::regclass)`, shown.Key); err != nil {
		return err
	}
	if shown.Subscribed, err = db.Collect(ctx, pool, "list the subscriptions to a view", (*subscribed).fields, `
		select name, status, is_troubled, gets_all
		  from tinydevcrm._list_subscribed($1::text::regclass, $2)`, shown.Key, shownSubscribed); err != nil {
		return err
	}
	if shown.Dependents, err = db.Collect(ctx, pool, "list what reads a view", (*dependent).fields, `
		select kind, coalesce(constraint_name || coalesce(' of ' || relation::text, ''), relation::text), coalesce(key, '')
		  from tinydevcrm._list_dropped_with($1::text::regclass)`, shown.Key); err != nil {
		return err
	}
	if shown.Rules, err = s.readRules(ctx); err != nil {
		return err
	}
	if shown.Events, err = s.events.ReadForPage(ctx, parts.Latest, 0, shownEvents, shown.Key, "", 0); err != nil {
		return err
	}
	return s.readNotified(ctx, shown)
}

// readNotified reads the event that the URL names, as the links of notifications do. It may be gone.
func (s *screen) readNotified(ctx context.Context, shown *shownView) error {
	id, err := strconv.ParseInt(shown.parameters.Get("event"), 10, 64)
	if err != nil {
		return nil
	}
	found, err := s.events.ReadForPage(ctx, parts.Notified, pq.Array([]int64{id}), shown.Key, "")
	if err == nil && len(found) > 0 {
		shown.Notified = &found[0]
	}
	return err
}

func (s *screen) readRules(ctx context.Context) ([]notifyRule, error) {
	return db.Collect(ctx, s.site.DB(ctx), "read the rules", (*notifyRule).fields,
		"select name, label, description from tinydevcrm.notify_rules order by rank")
}

// readAnswers reads what the parameters of the URL ask for: a schedule in words, a replay of a rule.
func (s *screen) readAnswers(r *http.Request, shown *shownView) error {
	schedule := shown.Schedule
	if shown.Typed != "" {
		schedule = shown.Typed
	}
	if schedule != "" {
		var when description
		if err := s.readJSON(r, &when, describeSchedule, schedule); err != nil {
			return err
		}
		shown.When = &when
	}
	if shown.parameters.Has("replay") {
		var found replay
		// Of the view of this page, whatever the URL says.
		arguments := append([]any{shown.Key}, replayArguments(shown.parameters)[1:]...)
		if err := s.readJSON(r, &found, replayRule, arguments...); err != nil {
			return err
		}
		shown.Replay = &found
	}
	return nil
}

// Schedules are the usual ones that a form offers.
func (editor) Schedules() []string { return usualSchedules(true) }

// Schedules are the usual ones that a form offers.
func (v shownView) Schedules() []string { return usualSchedules(v.UntrackedReason == "") }

func usualSchedules(isTracked bool) []string {
	usual := []string{
		"on change", "every 5 seconds", "every minute", "every 10 minutes", "hourly", "daily at 7:00", "weekdays at 9:00",
		"monday at 8:00", "last day of the month at 7:00", "daily at 7:00 Europe/Berlin", "*/5 9-17 * * 1-5",
	}
	if !isTracked {
		return usual[1:]
	}
	return usual
}

const describeSchedule = `
	select row_to_json(described)
	  from tinydevcrm.describe_schedule($1) as described`

func (s *screen) describeSchedule(w http.ResponseWriter, r *http.Request) {
	s.writeQuery(w, r, describeSchedule, r.URL.Query().Get("schedule"))
}

// A field that is not sent stands for the setting of the view.
const replayRule = `
	select tinydevcrm._try_rule(
	           relation => $1::text::regclass,
	           notify_when => nullif($2, ''),
	           notify_after => case when $3 = '' then '1' else $3::text end::integer,
	           notify_interval => case when $4 = '' then '0' else $4::text end::interval)`

func replayArguments(values url.Values) []any {
	arguments := []any{values.Get("relation")}
	for _, field := range []string{"notify_when", "notify_after", "notify_interval"} {
		if !values.Has(field) {
			arguments = append(arguments, nil)
			continue
		}
		arguments = append(arguments, values.Get(field))
	}
	return arguments
}

func (s *screen) replayRule(w http.ResponseWriter, r *http.Request) {
	s.writeQuery(w, r, replayRule, replayArguments(r.URL.Query())...)
}

// A refresh is what a schedule or a refresh answers, for the page after it.
type refresh struct {
	Outcome, SuppressedBy, ErrorCode, ErrorMessage string
	RowCount                                       *int64
	DurationMS                                     float64
}

// RefreshOf reads the refresh from what the database has answered.
func (v shownView) RefreshOf(flash *kit.Flash) refresh {
	var answer struct {
		Outcome      string      `json:"outcome"`
		SuppressedBy string      `json:"suppressed_by"`
		ErrorCode    string      `json:"error_code"`
		ErrorMessage string      `json:"error_message"`
		RowCount     json.Number `json:"row_count"`
		DurationMS   float64     `json:"duration_ms"`
	}
	made, _ := json.Marshal(flash.Made)
	_ = json.Unmarshal(made, &answer)
	found := refresh{
		Outcome: answer.Outcome, SuppressedBy: answer.SuppressedBy, ErrorCode: answer.ErrorCode,
		ErrorMessage: answer.ErrorMessage, DurationMS: answer.DurationMS,
	}
	if count, err := strconv.ParseInt(answer.RowCount.String(), 10, 64); err == nil {
		found.RowCount = &count
	}
	return found
}
