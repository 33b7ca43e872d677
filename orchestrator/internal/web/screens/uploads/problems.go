package uploads

import (
	"bufio"
	"encoding/csv"
	"fmt"
	"net/http"
	"strconv"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/kit"
)

// showProblems returns the lines that an import repaired or left out, as CSV.
func (s *screen) showProblems(w http.ResponseWriter, r *http.Request) {
	if err := s.sendProblems(w, r); err != nil {
		w.Header().Del("Content-Disposition")
		s.site.WriteProblem(w, r, err)
	}
}

func (s *screen) sendProblems(w http.ResponseWriter, r *http.Request) error {
	release, err := s.site.TakeTransfer(r)
	if err != nil {
		return err
	}
	defer release()
	ctx, cancel := kit.TakeTime(r)
	defer cancel()
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		return noProblems(r.PathValue("id"))
	}
	rows, err := s.site.DB(ctx).QueryContext(ctx, `
		select line, reason, line_text, is_rejected
		  from tinydevcrm.import_problems
		 where import_id = $1
		 order by id`, id)
	if err != nil {
		return fmt.Errorf("read the problems of import %d: %w", id, err)
	}
	defer rows.Close()
	if !rows.Next() {
		if err := rows.Err(); err != nil {
			return fmt.Errorf("read the problems of import %d: %w", id, err)
		}
		return noProblems(r.PathValue("id"))
	}

	w.Header().Set("Content-Type", "text/csv; charset=utf-8; header=present")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Disposition", kit.Attachment(fmt.Sprintf("import_%d_problems.csv", id)))
	steady := kit.NewSteadyWriter(w)
	body := bufio.NewWriterSize(steady, 32<<10)
	lines := csv.NewWriter(body)
	lines.Write([]string{"line", "reason", "line_text", "is_rejected"})
	for hasRow := true; hasRow && err == nil; hasRow = rows.Next() {
		var line int64
		var reason, text string
		var isRejected bool
		if err = rows.Scan(&line, &reason, &text, &isRejected); err == nil {
			err = lines.Write([]string{strconv.FormatInt(line, 10), reason, text, strconv.FormatBool(isRejected)})
		}
	}
	lines.Flush()
	for _, also := range []error{rows.Err(), lines.Error(), body.Flush()} {
		if err == nil {
			err = also
		}
	}
	if err != nil && steady.HasBegun {
		// An incomplete answer must not look complete.
		s.site.Logger.WarnContext(r.Context(), "problems broke off", "path", r.URL.Path, "error", err)
		panic(http.ErrAbortHandler)
	}
	return err
}

func noProblems(id string) error {
	return &db.UserError{
		Status:  http.StatusNotFound,
		Code:    "TD001",
		Message: fmt.Sprintf("import %s has no lines that were repaired or left out", id),
		Hint:    "tinydevcrm.imports lists the imports; problem_count is the number of such lines.",
	}
}
