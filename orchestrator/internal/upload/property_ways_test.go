package upload_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
)

// checkByText imports the same file in text format, which must create the same table.
func (g generated) checkByText(ctx context.Context, pool *sql.DB, done upload.Import, back [][]cell) error {
	request := g.request.ByText()
	request.Table += "_text"
	other, err := upload.Load(ctx, pool, bytes.NewReader(g.text), request)
	if err != nil {
		return fmt.Errorf("by text: %s", db.Explain(err))
	}
	if !reflect.DeepEqual(other.Columns, done.Columns) {
		return fmt.Errorf("by text, the columns are %v, not %v", other.Columns, done.Columns)
	}
	rows, err := readBack(ctx, pool, request.Table, len(g.header))
	if err != nil {
		return err
	}
	if !reflect.DeepEqual(rows, back) {
		return errors.New("by text, the rows are others")
	}
	_, err = pool.ExecContext(ctx, "drop table "+request.Table)
	return err
}

// checkStaged imports the same cells through psql, which must create the same table.
func (g generated) checkStaged(ctx context.Context, pool *sql.DB, done upload.Import, back [][]cell) error {
	columns := slices.Clone(g.header)
	for i := range columns {
		columns[i] += " text"
	}
	if _, err := pool.ExecContext(ctx, fmt.Sprintf("create table staging_%[1]s (%[2]s)", g.request.Table, strings.Join(columns, ", "))); err != nil {
		return err
	}
	for _, row := range g.rows {
		values := make([]string, len(row))
		for i, value := range row {
			values[i] = "null"
			if value != nil {
				values[i] = pq.QuoteLiteral(*value)
			}
		}
		if _, err := pool.ExecContext(ctx, fmt.Sprintf("insert into staging_%s values (%s)", g.request.Table, strings.Join(values, ", "))); err != nil {
			return err
		}
	}
	var types []string
	err := pool.QueryRowContext(ctx, `
		select array(select jsonb_array_elements(columns)->>'type')
		  from tinydevcrm.import_staging($1::text::regclass, $2)`,
		"staging_"+g.request.Table, "psql_"+g.request.Table).Scan(pq.Array(&types))
	if err != nil {
		return fmt.Errorf("import_staging: %w", err)
	}
	for i, column := range done.Columns {
		if types[i] != column.Type {
			return fmt.Errorf("column %d is %s by the one way and %s by the other", i, column.Type, types[i])
		}
	}
	staged, err := readBack(ctx, pool, "psql_"+g.request.Table, len(g.header))
	if err != nil {
		return err
	}
	for i := range back {
		for j := range back[i] {
			if show(back[i][j]) != show(staged[i][j]) {
				return fmt.Errorf("row %d, column %d is %s by the one way and %s by the other", i, j, show(back[i][j]), show(staged[i][j]))
			}
		}
	}
	_, err = pool.ExecContext(ctx, fmt.Sprintf("drop table staging_%[1]s, psql_%[1]s", g.request.Table))
	return err
}
