package web

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// A replay says when a rule would have notified in the last seven days.
type replay struct {
	Count   int64 `json:"count"`
	Unknown int64 `json:"unknown_count"`
	// Newest are the last of these refreshes, newest first.
	Newest []struct {
		EventID   int64     `json:"event_id"`
		StartedAt time.Time `json:"started_at"`
		Why       string    `json:"why"`
		RowCount  *int64    `json:"row_count"`
	} `json:"newest"`
}

// A field that is not sent stands for the setting of the view.
const replayRule = `
	with replayed as materialized (
	    select *
	      from tinydevcrm.replay_rule(
	               relation => $1::text::regclass,
	               notify_when => nullif($2, ''),
	               notify_interval => case when $3 = '' then '0' else $3::text end::interval,
	               notify_after => case when $4 = '' then '1' else $4::text end::integer)
	)
	select json_build_object(
	           'count', (select count(*) from replayed where is_known),
	           'unknown_count', (select count(*) from replayed where not is_known),
	           'newest', (
	               select coalesce(json_agg(row_to_json(newest)), '[]')
	                 from (select * from replayed order by event_id desc limit 10) as newest
	           ))`

func replayArguments(values url.Values) []any {
	arguments := []any{values.Get("relation")}
	for _, field := range []string{"notify_when", "notify_interval", "notify_after"} {
		if !values.Has(field) {
			arguments = append(arguments, nil)
			continue
		}
		arguments = append(arguments, values.Get(field))
	}
	return arguments
}

func (s *server) replayOf(ctx context.Context, values url.Values) (*replay, error) {
	var result json.RawMessage
	if err := s.pool(ctx).QueryRowContext(ctx, replayRule, replayArguments(values)...).Scan(&result); err != nil {
		return nil, fmt.Errorf("replay a rule: %w", err)
	}
	var found replay
	if err := json.Unmarshal(result, &found); err != nil {
		return nil, fmt.Errorf("replay a rule: %w", err)
	}
	return &found, nil
}

func (s *server) replayRule(w http.ResponseWriter, r *http.Request) {
	s.writeQuery(w, r, replayRule, replayArguments(r.URL.Query())...)
}
