package source

import (
	"database/sql"
	"log/slog"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/guard"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
)

// NewRunnerWithin is NewRunner with timeouts that a test can wait for.
func NewRunnerWithin(pool *sql.DB, network *guard.Network, limits upload.Limits, logger *slog.Logger, stall, file time.Duration) *Runner {
	r := NewRunner(pool, network, limits, logger)
	r.stallWithin, r.fileWithin = stall, file
	r.settledAfter, r.inboxEvery = 200*time.Millisecond, 50*time.Millisecond
	return r
}
