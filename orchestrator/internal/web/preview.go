package web

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/kit"
)

// A preview holds the columns and the first rows of a query.
type preview struct {
	Columns []column    `json:"columns"`
	Rows    [][]*string `json:"rows"`
}

// Cells are the values of a row.
func (p preview) Cells(row []*string) []cell {
	cells := make([]cell, len(row))
	for i, value := range row {
		if value == nil {
			cells[i].IsNull = true
			continue
		}
		cells[i].Text = kit.Shorten(*value)
	}
	return cells
}

// previewQuery runs a query for its first rows, and rolls back everything else that it does.
func (s *server) previewQuery(w http.ResponseWriter, r *http.Request) {
	err := readForm(w, r, "query")
	filled := pageOfForm(r.PostForm)
	step, shown := stepView, &filled.Preview
	if filled.Altering != nil {
		step, shown = stepSchedule, &filled.Altering.Preview
	}
	var result json.RawMessage
	if err == nil {
		result, err = s.runPreview(r, r.PostForm.Get("query"))
	}
	if err == nil && wantsPage(r) {
		*shown = &preview{}
		err = json.Unmarshal(result, *shown)
	}
	switch {
	case err != nil:
		s.fail(w, r, step, filled, err)
	case wantsPage(r):
		s.renderPage(w, r, filled)
	default:
		s.writeJSON(w, r, http.StatusOK, result)
	}
}

func (s *server) runPreview(r *http.Request, query string) (json.RawMessage, error) {
	release, err := s.site.TakeAction(r)
	if err != nil {
		return nil, err
	}
	defer release()
	ctx, cancel := context.WithTimeout(r.Context(), previewTimeout)
	defer cancel()

	conn, err := s.pool(ctx).Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("preview a query: %w", err)
	}
	defer conn.Close()
	defer forget(conn)
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("preview a query: %w", err)
	}
	defer tx.Rollback()
	var result json.RawMessage
	err = tx.QueryRowContext(ctx, `
		select row_to_json(previewed)
		  from tinydevcrm.preview_query($1) as previewed`, query).Scan(&result)
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return nil, &db.UserError{
			Status:  http.StatusGatewayTimeout,
			Message: fmt.Sprintf("the first rows took longer than %s", previewTimeout),
			Hint:    "Narrow the query down, or create the view: a refresh may take longer.",
		}
	}
	if err != nil {
		return nil, fmt.Errorf("preview a query: %w", err)
	}
	return result, nil
}

// forget removes what a query may have left in its session. When that fails, the connection is closed.
func forget(conn *sql.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
	defer cancel()
	if _, err := conn.ExecContext(ctx, "discard all"); err != nil {
		_ = conn.Raw(func(any) error { return driver.ErrBadConn })
	}
}
