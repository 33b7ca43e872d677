package web

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// A description says in words when a schedule is due.
type description struct {
	Schedule  string      `json:"schedule"`
	Words     string      `json:"words"`
	TimeZone  string      `json:"time_zone"`
	NextDueAt []time.Time `json:"next_due_at"`
}

const describeSchedule = `
	select row_to_json(described)
	  from tinydevcrm.describe_schedule($1) as described`

func (s *server) describe(ctx context.Context, schedule string) (*description, error) {
	var result json.RawMessage
	if err := s.pool(ctx).QueryRowContext(ctx, describeSchedule, schedule).Scan(&result); err != nil {
		return nil, fmt.Errorf("describe a schedule: %w", err)
	}
	var when description
	if err := json.Unmarshal(result, &when); err != nil {
		return nil, fmt.Errorf("describe a schedule: %w", err)
	}
	return &when, nil
}

func (s *server) describeSchedule(w http.ResponseWriter, r *http.Request) {
	s.writeQuery(w, r, describeSchedule, r.URL.Query().Get("schedule"))
}
