package views

import (
	"fmt"
	"net/http"
	"net/url"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/kit"
)

// pageOf is the page of the view that a form names; the list when it names none.
func pageOf(form url.Values) string {
	if form.Get("relation") == "" {
		return "/views"
	}
	return kit.Path("views", form.Get("relation"))
}

// pageOfMade is the page of the view that the database names in its answer.
func pageOfMade(_ url.Values, made map[string]any) string {
	return kit.Path("views", fmt.Sprint(made["relation"]))
}

// ofView is an action on an existing view: the query gets its name and then more fields, which are required.
func ofView(name, says, query string, fields ...string) kit.Action {
	return kit.Action{
		Name:     name,
		Says:     says + " a materialized view",
		Required: append([]string{"relation"}, fields...),
		Fields:   append([]string{"relation"}, fields...),
		Named:    "relation",
		Query:    query,
		Screen:   pageOf,
	}
}

// calling is the query of an action that returns only the name.
func calling(function string) string {
	return `
		select json_build_object('relation', $1::text)
		  from tinydevcrm.` + function
}

// actions are the routes of all buttons.
func (s *screen) actions() map[string]http.HandlerFunc {
	schedule := ofView("schedule", "schedule", `
		select row_to_json(scheduled)
		  from tinydevcrm.schedule_matview($1::text::regclass, $2) as scheduled`, "schedule")
	schedule.At = "schedule"
	// In a session of another role than the owner's there is no event yet.
	refresh := ofView("refresh", "refresh", `
		select case
		           when events.outcome is not null then tinydevcrm.event_json(events)
		           when not tinydevcrm._is_session_of(pg_class.relowner) then
		               json_build_object('relation', $1::text, 'is_requested', true)
		       end
		  from tinydevcrm.refresh_matview($1::text::regclass) as events
		  left join pg_catalog.pg_class
		    on pg_class.oid = $1::text::regclass`)
	// The ignored columns are a list, in which a name may be quoted as in SQL. A field that is not sent leaves
	// its setting as it is.
	watch := ofView("watch", "watch", `
		select json_build_object('relation', watched.relation::text)
		  from tinydevcrm.watch_matview(
		           relation => $1::text::regclass,
		           notify_when => $2,
		           ignored_columns => tinydevcrm._read_names($3),
		           notify_interval => case when $4 = '' then '0' else $4::text end::interval,
		           notify_after => case when $5 = '' then '1' else $5::text end::integer,
		           notify_deadline => case when $6 = '' then '0' else $6::text end::interval) as watched`)
	watch.Fields = append(watch.Fields, "notify_when", "ignored_columns", "notify_interval", "notify_after", "notify_deadline")
	watch.At = "rule"
	embed := ofView("embed", "allow other sites to show", `
		select json_build_object('relation', relation::text, 'origins', origins)
		  from tinydevcrm.allow_embedding(
		           $1::text::regclass,
		           regexp_split_to_array(trim(both e' \t\r\n,' from $2), e'[\\s,]+'))`, "origins")
	embed.At = "embed"
	drop := ofView("drop", "drop", calling("drop_matview($1::text::regclass)"))
	drop.At = "drop"
	drop.Next = func(url.Values, map[string]any) string { return "/views" }
	mute := ofView("mute", "mute", calling("mute_matview($1::text::regclass, now() + $2::interval)"), "mute_for")
	alter := ofView("alter", "alter the query of", `
		select json_build_object(
		           'relation', altered.matview::text,
		           'kept', altered.kept,
		           'rebuilt', altered.rebuilt,
		           'warnings', altered.warnings)
		  from tinydevcrm.alter_matview_query($1::text::regclass, $2) as altered`, "query")
	alter.At = "editor"
	alter.Screen = editorOf
	alter.Next = func(form url.Values, _ map[string]any) string { return pageOf(form) }

	routes := map[string]http.HandlerFunc{
		"POST /matviews/preview": s.previewQuery,
		"POST /matviews": s.site.Do(kit.Action{
			Name: "create", Says: "create a materialized view", At: "editor", Status: http.StatusCreated,
			Required: []string{"name", "query"},
			Fields:   []string{"name", "query", "notify_when", "schedule", "new_subscription", "url"},
			Query:    "select tinydevcrm._set_up_matview($1, $2, $3, $4, $5, $6)",
			Screen:   func(url.Values) string { return "/views/new" },
			Next:     pageOfMade,
			// That of a webhook.
			HasSecret: true,
		}),
		"POST /matviews/restore": s.site.Do(kit.Action{
			Name: "restore", Says: "restore a materialized view", At: "dropped", Status: http.StatusCreated,
			Required: []string{"name"}, Fields: []string{"name"},
			Query: `
				select json_build_object('relation', restored.relation::text)
				  from tinydevcrm.restore_matview($1) as restored (relation)`,
			Screen: func(url.Values) string { return "/views" },
			Next:   pageOfMade,
		}),
	}
	for name, action := range map[string]kit.Action{
		"schedule":   schedule,
		"refresh":    refresh,
		"watch":      watch,
		"embed":      embed,
		"drop":       drop,
		"mute":       mute,
		"alter":      alter,
		"unschedule": ofView("unschedule", "unschedule", calling("unschedule_matview($1::text::regclass)")),
		"pause":      ofView("pause", "pause", calling("pause_matview($1::text::regclass)")),
		"resume":     ofView("resume", "resume", calling("resume_matview($1::text::regclass)")),
		"unmute":     ofView("unmute", "end the mute of", calling("unmute_matview($1::text::regclass)")),
		"accept":     ofView("accept", "accept the tables of", calling("accept_tables($1::text::regclass)")),
		"unembed":    ofView("unembed", "forbid other sites to show", calling("forbid_embedding($1::text::regclass)")),
	} {
		routes["POST /matviews/"+name] = s.site.Do(action)
	}
	return routes
}
