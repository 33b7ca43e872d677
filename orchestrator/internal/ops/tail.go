package ops

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/lib/pq"
)

const (
	// tailBatch bounds what one scrape reads; the next goes on from there.
	tailBatch = 20000
	// What commits late has an id below those already counted. Such gaps are looked into again for as
	// long as this, the newest of them.
	gapTimeout = time.Hour
	maxGaps    = 1000
)

// A tail counts the rows that come into a table, by one of its columns. It does not count what is there:
// retention removes rows, and a counter may not go down. It begins with the program, which is a reset
// to Prometheus; no row is counted twice.
type tail struct {
	// newest is the last id of the table, query the rows after $1 and those of the gaps $2.
	newest, query string

	hasBegun bool
	last     int64
	gaps     map[int64]time.Time
	counts   map[string]float64
}

func newTail(relation, column string, values ...string) *tail {
	t := &tail{
		newest: "select coalesce(max(id), 0) from " + relation,
		query: fmt.Sprintf(`
			select id, %[2]s from %[1]s where id = any ($2)
			union all
			(select id, %[2]s from %[1]s where id > $1 order by id limit %[3]d)`, relation, column, tailBatch),
		gaps:   make(map[int64]time.Time),
		counts: make(map[string]float64),
	}
	for _, value := range values {
		t.counts[value] = 0
	}
	return t
}

// read counts what is new. After an error it has counted nothing, and the next read does.
func (t *tail) read(ctx context.Context, tx *sql.Tx) error {
	var newest int64
	if err := tx.QueryRowContext(ctx, t.newest).Scan(&newest); err != nil {
		return fmt.Errorf("find the newest row: %w", err)
	}
	if !t.hasBegun || newest != 0 && newest < t.last {
		// A smaller one is of a database made anew, or the newest rows are gone: there is nothing behind it.
		t.hasBegun, t.last = true, newest
		clear(t.gaps)
		return nil
	}
	rows, err := tx.QueryContext(ctx, t.query, t.last, pq.Array(slices.Collect(maps.Keys(t.gaps))))
	if err != nil {
		return fmt.Errorf("count new rows: %w", err)
	}
	defer rows.Close()
	came := make(map[int64]string)
	for rows.Next() {
		var id int64
		var value string
		if err := rows.Scan(&id, &value); err != nil {
			return fmt.Errorf("count new rows: %w", err)
		}
		came[id] = value
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("count new rows: %w", err)
	}
	t.count(came, time.Now())
	return nil
}

// count takes the rows that came, and remembers what is missing between them.
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
