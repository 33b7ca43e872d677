package db

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
)

// A Querier runs queries: a pool, a connection or a transaction.
type Querier interface {
	QueryContext(ctx context.Context, query string, arguments ...any) (*sql.Rows, error)
}

// Collect returns the rows of a query; empty, not nil, when there are none. fields returns where to scan the
// columns of a row. what names the work in an error.
func Collect[T any](ctx context.Context, from Querier, what string, fields func(*T) []any, query string, arguments ...any) ([]T, error) {
	rows, err := from.QueryContext(ctx, query, arguments...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	defer rows.Close()
	found := []T{}
	for rows.Next() {
		var next T
		if err := rows.Scan(fields(&next)...); err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		found = append(found, next)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return found, nil
}

// JSON is where to scan a column of type json, which fills target.
func JSON(target any) sql.Scanner { return document{target} }

type document struct{ target any }

func (d document) Scan(value any) error {
	text, isText := value.([]byte)
	if !isText {
		return fmt.Errorf("read JSON: a column is a %T", value)
	}
	if err := json.Unmarshal(text, d.target); err != nil {
		return fmt.Errorf("read JSON: %w", err)
	}
	return nil
}
