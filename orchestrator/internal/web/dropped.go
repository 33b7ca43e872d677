package web

import (
	"context"
	"net/http"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

// shownDropped is how many dropped views the page lists. The others are in tinydevcrm.dropped_matviews.
const shownDropped = 10

// A droppedMatview is a row of tinydevcrm.dropped_matviews, with the beginning of its query.
type droppedMatview struct {
	Name, By, Query string
	At              time.Time
}

func (d *droppedMatview) fields() []any { return []any{&d.Name, &d.By, &d.Query, &d.At} }

// fillDropped reads the views that the user has dropped last.
func (s *server) fillDropped(ctx context.Context, shown *page) error {
	var err error
	shown.Dropped, err = db.Collect(ctx, s.pool(ctx), "list the dropped views", (*droppedMatview).fields, `
		select format('%I.%I', schema_name, name), dropped_by, left(query, 200), dropped_at
		  from tinydevcrm.dropped_matviews
		 where owner = quote_ident(current_user)::regrole
		 order by dropped_at desc
		 limit $1`, shownDropped)
	return err
}

func (s *server) restoreMatview(w http.ResponseWriter, r *http.Request) {
	s.run(w, r, action{
		step:     stepSchedule,
		done:     "restore",
		says:     "restore a materialized view",
		required: []string{"name"},
		query: `
			select json_build_object('relation', restored.relation::text)
			  from tinydevcrm.restore_matview($1) as restored (relation)`,
		fields: []string{"name"},
		status: http.StatusCreated,
	})
}
