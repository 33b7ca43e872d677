package db_test

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

func TestExplain(t *testing.T) {
	tests := []struct {
		name   string
		err    error
		status int
		want   string
	}{
		{"ours", &pq.Error{Code: "TD003", Message: "not a schedule", Hint: "write another"}, 422, "write another"},
		{"name in use", &pq.Error{Code: "TD004", Message: "taken"}, 409, "taken"},
		{"no table", &pq.Error{Code: "42P01", Message: `relation "x" does not exist`}, 404, `"x"`},
		{"no schema of ours", &pq.Error{Code: "3F000", Message: `schema "tinydevcrm" does not exist`}, 503, "migrate up"},
		{"no schema of theirs", &pq.Error{Code: "3F000", Message: `schema "nosuch" does not exist`}, 404, "nosuch"},
		{"no rights", &pq.Error{Code: "42501", Message: "permission denied"}, 403, "permission denied"},
		{"no user of ours", &pq.Error{Code: "42501", Message: "permission denied for schema tinydevcrm"}, 403, "grant tinydevcrm_user to"},
		{"bad CSV", &pq.Error{Code: "22P04", Message: "extra data", Where: "COPY t, line 3: \"x\"\nSQL statement"}, 422, "line 3"},
		{"in a query", &pq.Error{Code: "42703", Message: "no column", InternalQuery: "select é\n  from x", InternalPosition: "15"}, 422,
			"LINE 2:   from x\n               ^"},
		{"too many connections", &pq.Error{Code: "53300", Message: "too many clients"}, 503, "too many clients"},
		{"a standby", &pq.Error{Code: "25006", Message: "cannot execute INSERT in a read-only transaction"}, 503, "DATABASE_URL"},
		{"a full disk", &pq.Error{Code: "53100", Message: "could not extend file"}, 503, "disk is full"},
		{"a lost connection", driver.ErrBadConn, 503, "was lost"},
		{"a timeout that somebody set", &pq.Error{Code: "57014", Message: "canceling statement due to statement timeout"}, 504, "reset statement_timeout"},
		{"a session that the server ended", &pq.Error{Code: "25P03", Message: "terminating connection"}, 503, "idle_in_transaction_session_timeout"},
		{"a bug of the server's", &pq.Error{Code: "XX000", Message: "secret detail"}, 500, "internal error"},
		{"a bug of ours", errors.New("secret detail"), 500, "internal error"},
		{"cut off", fmt.Errorf("read: %w", io.ErrUnexpectedEOF), 400, "ended before"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			problem := db.Explain(fmt.Errorf("do it: %w", test.err))
			if problem.Status != test.status || !strings.Contains(problem.String(), test.want) {
				t.Errorf("got %d %q, want %d %q", problem.Status, problem, test.status, test.want)
			}
			if strings.Contains(problem.String(), "secret") {
				t.Errorf("what belongs in the log is in the answer: %q", problem)
			}
		})
	}
}
