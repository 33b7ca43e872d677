package ops

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

const (
	// tailBatch bounds what one scrape reads; the next goes on from there.
	tailBatch = 20000
	// A transaction that commits late has ids below those already counted. Such gaps are read again for this
	// long, the newest maxGaps of them.
	gapTimeout = time.Hour
	maxGaps    = 1000
)

// A tail counts the rows that are added to a table, by one of its columns. It does not count the existing rows,
// because retention removes rows and a counter may not decrease. It starts at 0 with the program, which
// Prometheus sees as a counter reset. No row is counted twice.
type tail struct {
	// newest is the query for the last id of the table, and whether the role sees all its rows. query reads
	// the rows after $1 and those of the gaps $2. values is the query for the values that are counted from 0.
	newest, query, values string

	hasBegun bool
	last     int64
	gaps     map[int64]time.Time
	counts   map[string]float64
}

func newTail(relation, column, values string) *tail {
	return &tail{
		newest: fmt.Sprintf("select tinydevcrm._sees_all('%[1]s'), coalesce(max(id), 0) from %[1]s", relation),
		query: fmt.Sprintf(`
			select id, %[2]s from %[1]s where id = any ($2)
			union all
			(select id, %[2]s from %[1]s where id > $1 order by id limit %[3]d)`, relation, column, tailBatch),
		values: values,
		gaps:   make(map[int64]time.Time),
		counts: make(map[string]float64),
	}
}

type tailRow struct {
	id    int64
	value string
}

// read counts the new rows and returns a copy of the counts; nil when the role does not see the whole table.
// When it fails, it has counted nothing, and the next read counts those rows.
func (t *tail) read(ctx context.Context, tx *sql.Tx) (map[string]float64, error) {
	var seesAll bool
	var newest int64
	if err := tx.QueryRowContext(ctx, t.newest).Scan(&seesAll, &newest); err != nil {
		return nil, fmt.Errorf("find the newest row: %w", err)
	}
	if !seesAll {
		return nil, nil
	}
	if !t.hasBegun || newest != 0 && newest < t.last {
		// A smaller id means that the database was recreated or that the newest rows were removed. There is
		// nothing after it to count.
		values, err := db.Collect(ctx, tx, "read the values", func(value *string) []any { return []any{value} }, t.values)
		if err != nil {
			return nil, err
		}
		for _, value := range values {
			t.counts[value] += 0
		}
		t.hasBegun, t.last = true, newest
		clear(t.gaps)
		return maps.Clone(t.counts), nil
	}
	rows, err := db.Collect(ctx, tx, "count new rows", func(r *tailRow) []any { return []any{&r.id, &r.value} },
		t.query, t.last, pq.Array(slices.Collect(maps.Keys(t.gaps))))
	if err != nil {
		return nil, err
	}
	came := make(map[int64]string)
	for _, row := range rows {
		came[row.id] = row.value
	}
	t.count(came, time.Now())
	return maps.Clone(t.counts), nil
}

// count counts the new rows, and remembers the gaps between their ids.
func (t *tail) count(came map[int64]string, now time.Time) {
	last := t.last
	for id, value := range came {
		t.counts[value]++
		delete(t.gaps, id)
		last = max(last, id)
	}
	for id := max(t.last+1, last-maxGaps); id < last; id++ {
		if _, ok := came[id]; !ok {
			t.gaps[id] = now
		}
	}
	t.last = last
	for id, since := range t.gaps {
		if now.Sub(since) > gapTimeout {
			delete(t.gaps, id)
		}
	}
	if len(t.gaps) > maxGaps {
		oldest := slices.Sorted(maps.Keys(t.gaps))
		for _, id := range oldest[:len(oldest)-maxGaps] {
			delete(t.gaps, id)
		}
	}
}
