package ops

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

// A database reads the metrics that come from the database.
type database struct {
	pool *sql.DB
	// Only the one running read uses the tails. It hands out copies.
	refreshes, imports *tail
}

// A figure is one metric and the values of its labels.
type figure struct {
	name   string
	labels []string
	value  float64
}

func (f *figure) fields() []any { return []any{&f.name, pq.Array(&f.labels), &f.value} }

// A reading is the result of one scrape of the database. Counts are nil for a table of which the role cannot
// see all rows.
type reading struct {
	figures            []figure
	refreshes, imports map[string]float64
}

func newDatabase(pool *sql.DB) *database {
	return &database{
		pool: pool,
		refreshes: newTail("tinydevcrm.matview_refresh_events", "outcome",
			"values ('refreshed'), ('recovered'), ('failed'), ('skipped'), ('late'), ('silent'), ('resumed'), ('dropped')"),
		imports: newTail("tinydevcrm.imports", "mode", "select name from tinydevcrm.import_modes"),
	}
}

// read reads everything from one snapshot. None of its statements outlives the scrape.
func (d *database) read(ctx context.Context) (*reading, error) {
	tx, err := d.pool.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return nil, fmt.Errorf("begin a scrape: %w", err)
	}
	// The transaction only reads, so it needs no commit.
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, fmt.Sprintf("set local statement_timeout = %d", (scrapeWithin-time.Second).Milliseconds())); err != nil {
		return nil, fmt.Errorf("begin a scrape: %w", err)
	}

	read := &reading{}
	if read.figures, err = db.Collect(ctx, tx, "read the gauges", (*figure).fields,
		"select name, labels, value from tinydevcrm._metrics()"); err != nil {
		return nil, err
	}
	if read.refreshes, err = d.refreshes.read(ctx, tx); err != nil {
		return nil, fmt.Errorf("refreshes: %w", err)
	}
	if read.imports, err = d.imports.read(ctx, tx); err != nil {
		return nil, fmt.Errorf("imports: %w", err)
	}
	return read, nil
}
