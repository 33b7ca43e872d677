package web

import (
	"context"
	"fmt"
	"net/http"
)

// An altering is the form for the query of the chosen view.
type altering struct {
	Query string
	// IsTyped means that the query is the user's input, and not the one of the view.
	IsTyped bool
	Preview *preview
}

func (s *server) alterMatview(w http.ResponseWriter, r *http.Request) {
	altering := ofMatview("alter", "alter the query of", `
		select json_build_object(
		           'relation', altered.matview::text,
		           'kept', altered.kept,
		           'rebuilt', altered.rebuilt,
		           'warnings', altered.warnings)
		  from tinydevcrm.alter_matview_query($1::text::regclass, $2) as altered`, "query")
	altering.required = append(altering.required, "query")
	s.run(w, r, altering)
}

// fillQuery reads the query of the chosen view, unless the user has typed another one.
func (s *server) fillQuery(ctx context.Context, shown *page) error {
	if shown.Matview == nil || !shown.Matview.IsOwn || shown.Altering != nil {
		return nil
	}
	shown.Altering = &altering{}
	err := s.pool(ctx).QueryRowContext(ctx,
		"select tinydevcrm._show_query($1::text::regclass)", shown.Matview.Relation).Scan(&shown.Altering.Query)
	if err != nil {
		return fmt.Errorf("read the query of %s: %w", shown.Matview.Relation, err)
	}
	return nil
}
