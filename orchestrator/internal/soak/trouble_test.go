//go:build soak

package soak

import (
	"database/sql"
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// trouble causes faults. It does so in the goroutine of the test, between two samples.
type trouble struct {
	t               *testing.T
	server          *dbtest.Server
	pool            *sql.DB
	steady, fragile *program
	chance          *rand.Rand
	kinds           map[string]int
}

// do causes the faults that are due after a sample.
func (h *trouble) do(sample int) {
	h.t.Helper()
	switch {
	case sample%60 == 37:
		h.count("the server killed")
		h.killServer()
	case sample%20 == 13:
		h.count("a backend killed")
		h.onBackend(func(pid int) error { return syscall.Kill(pid, syscall.SIGKILL) })
	case sample%6 == 3:
		h.count("the fragile program killed")
		dbtest.Eventually(h.t, dbtest.Deadline, "the fragile program runs", h.fragile.kill)
	case sample%2 == 1:
		h.count("a backend terminated")
		h.onBackend(func(pid int) error {
			_, err := h.pool.ExecContext(h.t.Context(), "select pg_terminate_backend($1)", pid)
			return err
		})
	}
}

func (h *trouble) count(what string) { h.kinds[what]++ }

// onBackend runs a function on a backend of the programs or of a job of pg_cron.
func (h *trouble) onBackend(do func(pid int) error) {
	h.t.Helper()
	dbtest.Eventually(h.t, dbtest.Deadline, "there is a backend", func() bool {
		var pid int
		err := h.pool.QueryRowContext(h.t.Context(), `
			select pid
			  from pg_stat_activity
			 where application_name in ('steady', 'fragile', 'pg_cron')
			   and backend_type = 'client backend'
			 order by random()
			 limit 1`).Scan(&pid)
		return err == nil && do(pid) == nil
	})
}

func (h *trouble) killServer() {
	h.t.Helper()
	h.server.Kill()
	h.server.Start()
}
