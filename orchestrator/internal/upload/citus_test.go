package upload_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/migrate"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
)

// citusFiles is how many files are generated for a coordinator: each one creates and drops shards.
const citusFiles = 150

// For any generated file, the import on a coordinator keeps in every cell the value and the type that it has
// without Citus, whatever the type of the distribution column.
func TestCitusEveryCellComesBack(t *testing.T) {
	cluster := dbtest.NewCluster(t, 2)
	pool := cluster.Open()
	t.Cleanup(func() { pool.Close() })
	migrator, err := migrate.Open(t.Context(), pool)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(migrator.Up(0), migrator.Close()); err != nil {
		t.Fatal(err)
	}
	dbtest.Exec(t, pool, "update tinydevcrm.settings set reference_row_limit = 0")

	kinds := map[string]int{}
	for number := range citusFiles {
		g := generate(rand.New(rand.NewPCG(2, uint64(number))))
		kind, err := checkDistributed(t.Context(), pool, g)
		if err != nil {
			t.Fatalf("file %d: %v\n%.2000q", number, err, g.text)
		}
		kinds[kind]++
	}
	t.Logf("distributed by columns of %v", kinds)
	for _, needed := range []string{"bigint", "text", "no table"} {
		if kinds[needed] == 0 {
			t.Errorf("no file is distributed by a column of type %s", needed)
		}
	}
}

// checkDistributed imports a file twice, compares, and returns the type of the distribution column. A file with
// a null in each column is refused.
func checkDistributed(ctx context.Context, pool *sql.DB, g generated) (kind string, err error) {
	// A column in which every row has a value, if there is one.
	column := slices.IndexFunc(g.header, func(name string) bool {
		at := slices.Index(g.header, name)
		return !slices.ContainsFunc(g.rows, func(row []cell) bool { return row[at] == nil })
	})
	isRefused := column < 0
	column = max(column, 0)

	g.request.Table = "plain"
	plain, err := upload.Load(ctx, pool, bytes.NewReader(g.text), g.request)
	if err != nil {
		return "", errors.New(db.Explain(err).String())
	}
	g.request.Table, g.request.DistributeBy = "distributed", g.header[column]
	distributed, err := upload.Load(ctx, pool, bytes.NewReader(g.text), g.request)
	if isRefused {
		if code := db.Explain(err).Code; code != "TD011" {
			return "", fmt.Errorf("a null in the column: %v", err)
		}
		_, err = pool.ExecContext(ctx, "drop table plain")
		return "no table", err
	}
	if err != nil {
		return "", errors.New(db.Explain(err).String())
	}
	if !reflect.DeepEqual(plain.Columns, distributed.Columns) || distributed.RowCount != plain.RowCount ||
		distributed.Distribution == nil || *distributed.Distribution != "distributed by "+g.header[column] {
		return "", fmt.Errorf("%+v, without Citus %+v", distributed, plain)
	}
	var rows [2][]string
	for i, table := range []string{"plain", "distributed"} {
		if err := pool.QueryRowContext(ctx, fmt.Sprintf(
			"select array(select row(%s)::text as r from %s order by r)", castColumns(len(g.header)), table)).
			Scan(pq.Array(&rows[i])); err != nil {
			return "", err
		}
	}
	if !slices.Equal(rows[0], rows[1]) {
		return "", fmt.Errorf("the rows are\n%s, without Citus\n%s", strings.Join(rows[1], "\n"), strings.Join(rows[0], "\n"))
	}
	_, err = pool.ExecContext(ctx, "drop table plain, distributed")
	return distributed.Columns[column].Type, err
}
