package ops

import (
	"context"
	"database/sql"
	_ "embed"
	"fmt"
	"maps"
	"time"

	"github.com/lib/pq"
)

//go:embed gauges.sql
var gaugesSQL string

// A database is what is read from the database.
type database struct {
	pool *sql.DB
	// The tails are those of the one read that is under way; it hands out copies.
	refreshes, imports *tail
}

// A figure is one metric, and its labels' values.
type figure struct {
	name   string
	labels []string
	value  float64
}

// A reading is what one look at the database gave. Nil counts are of tables that the role does not see
// all of.
type reading struct {
	figures            []figure
	refreshes, imports map[string]float64
}

func newDatabase(pool *sql.DB) *database {
	return &database{
		pool: pool,
		refreshes: newTail("tinydevcrm.matview_refresh_events", "outcome",
			"refreshed", "recovered", "failed", "skipped"),
		imports: newTail("tinydevcrm.imports", "mode", "create", "replace", "append", "upsert"),
	}
}

// read takes all from one snapshot, and leaves no statement behind that outlives the scrape.
func (d *database) read(ctx context.Context) (*reading, error) {
	tx, err := d.pool.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return nil, fmt.Errorf("begin a scrape: %w", err)
	}
	// Read only: there is nothing to commit.
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, fmt.Sprintf("set local statement_timeout = %d", (scrapeWithin-time.Second).Milliseconds())); err != nil {
		return nil, fmt.Errorf("begin a scrape: %w", err)
	}

	read := &reading{}
	sees, err := d.readGauges(ctx, tx, read)
	if err != nil {
		return nil, err
	}
	if sees["events"] {
		if err := d.refreshes.read(ctx, tx); err != nil {
			return nil, fmt.Errorf("refreshes: %w", err)
		}
		read.refreshes = maps.Clone(d.refreshes.counts)
	}
	if sees["imports"] {
		if err := d.imports.read(ctx, tx); err != nil {
			return nil, fmt.Errorf("imports: %w", err)
		}
		read.imports = maps.Clone(d.imports.counts)
	}
	return read, nil
}

// readGauges runs gauges.sql, and says of which tables the role sees all.
func (d *database) readGauges(ctx context.Context, tx *sql.Tx, read *reading) (sees map[string]bool, err error) {
	rows, err := tx.QueryContext(ctx, gaugesSQL)
	if err != nil {
		return nil, fmt.Errorf("read the gauges: %w", err)
	}
	defer rows.Close()
	sees = make(map[string]bool)
	for rows.Next() {
		var f figure
		if err := rows.Scan(&f.name, pq.Array(&f.labels), &f.value); err != nil {
			return nil, fmt.Errorf("read a gauge: %w", err)
		}
		if f.name == "sees" {
			sees[f.labels[0]] = f.value == 1
			continue
		}
		read.figures = append(read.figures, f)
	}
	return sees, rows.Err()
}
