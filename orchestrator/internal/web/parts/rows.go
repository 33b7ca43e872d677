package parts

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"iter"
	"net/url"
	"strings"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/kit"
)

// ReadAsItIs has the rows come in the order in which they stand, and waits for no refresh.
const ReadAsItIs = "set local synchronize_seqscans = off; set local lock_timeout = '5s'"

// filterPrefix begins the parameters that filter by a column.
const filterPrefix = "where."

// countedRows is up to how many rows are counted.
const countedRows = 1_000_000

// A Column of rows.
type Column struct {
	Name, Type string
	IsNumber   bool
	// Filter is what the values must be: see tinydevcrm._print_filter().
	Filter string
	// Head sorts the rows by the column.
	Head kit.SortHead
}

// FilterName is the name of the field that filters by the column.
func (c Column) FilterName() string { return filterPrefix + c.Name }

// Rows are one page of the rows of a table or view that the session's role owns. The template "rows" shows them.
type Rows struct {
	Relation string
	kit.List
	Columns []Column
	Lines   [][]kit.Cell
}

// ReadRows reads the page of rows that a URL asks for: its parameters are page, sort, and where.COLUMN.
func ReadRows(ctx context.Context, pool *sql.DB, relation string, address *url.URL, size int) (*Rows, error) {
	wanted, err := selectionOf(address)
	if err != nil {
		return nil, err
	}
	rows := &Rows{Relation: relation, List: kit.ListOf(address, size, wanted.sort)}
	tx, err := pool.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, fmt.Errorf("begin to read %s: %w", relation, err)
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, ReadAsItIs); err != nil {
		return nil, fmt.Errorf("begin to read %s: %w", relation, err)
	}
	var names, types []string
	var areNumbers []bool
	var statement, counting string
	err = tx.QueryRowContext(ctx, `
		select names, types, are_numbers, statement, counting
		  from tinydevcrm._build_page_statement($1::text::regclass, $2, $3, $4, $5, $6, $7)`,
		relation, kit.MaxCell+1, wanted.sort, wanted.isDescending, wanted.filters, rows.Offset(), rows.Limit()).
		Scan(pq.Array(&names), pq.Array(&types), pq.Array(&areNumbers), &statement, &counting)
	if err != nil {
		return nil, fmt.Errorf("read the columns of %s: %w", relation, err)
	}
	for i, name := range names {
		rows.Columns = append(rows.Columns, Column{
			Name: name, Type: types[i], IsNumber: areNumbers[i], Filter: address.Query().Get(filterPrefix + name), Head: rows.Head(name, name),
		})
	}
	for values, err := range ReadLines(ctx, tx, statement) {
		if err != nil {
			return nil, fmt.Errorf("read the rows of %s: %w", relation, err)
		}
		rows.Lines = append(rows.Lines, kit.CellsOf(values))
	}
	rows.Lines = kit.Cut(&rows.List, rows.Lines)
	if err := tx.QueryRowContext(ctx, counting).Scan(&rows.Count); err != nil {
		return nil, fmt.Errorf("count the rows of %s: %w", relation, err)
	}
	return rows, nil
}

// A selection is which rows a URL asks for, in which order.
type selection struct {
	sort         string
	isDescending bool
	// filters is the JSON that tinydevcrm._build_page_statement() takes.
	filters string
}

// selectionOf reads the parameters sort and where.COLUMN.
func selectionOf(address *url.URL) (wanted selection, err error) {
	values := address.Query()
	wanted.sort, wanted.isDescending = strings.CutPrefix(values.Get("sort"), "-")
	filters := map[string]string{}
	for name := range values {
		if column, isFilter := strings.CutPrefix(name, filterPrefix); isFilter && values.Get(name) != "" {
			filters[column] = values.Get(name)
		}
	}
	given, err := json.Marshal(filters)
	if err != nil {
		return selection{}, fmt.Errorf("write the filters: %w", err)
	}
	wanted.filters = string(given)
	return wanted, nil
}

// As is the URL of the rows as a file: all of them that fit the filters, in this order. path is that without filters.
func (r Rows) As(path string) string {
	values := r.Others("page")
	if len(values) == 0 {
		return path
	}
	return path + "?" + values.Encode()
}

// Summary says how many rows there are.
func (r Rows) Summary() (text string) {
	text = kit.Count(min(r.Count, countedRows), "row")
	if r.Count > countedRows {
		text = "more than " + text
	}
	if r.IsFiltered() {
		text += " with these values"
	}
	return text
}

// IsFiltered means that there may be other rows.
func (r Rows) IsFiltered() bool {
	for _, column := range r.Columns {
		if column.Filter != "" {
			return true
		}
	}
	return false
}

// Kept are the parameters of the URL that the form for the filters leaves as they are.
func (r Rows) Kept() url.Values {
	names := make([]string, len(r.Columns))
	for i, column := range r.Columns {
		names[i] = column.FilterName()
	}
	return r.Others(names...)
}

// Unfiltered is the URL of all rows.
func (r Rows) Unfiltered() string { return r.URL(r.Kept()) }

// A Querier is a connection, or a transaction on one.
type Querier interface {
	QueryContext(ctx context.Context, query string, arguments ...any) (*sql.Rows, error)
}

// ReadLines returns the rows of a statement that returns arrays of text. An error ends the sequence.
func ReadLines(ctx context.Context, from Querier, statement string) iter.Seq2[[]sql.NullString, error] {
	return func(yield func([]sql.NullString, error) bool) {
		rows, err := from.QueryContext(ctx, statement)
		if err != nil {
			yield(nil, fmt.Errorf("read rows: %w", err))
			return
		}
		defer rows.Close()
		for rows.Next() {
			var values []sql.NullString
			if err := rows.Scan(pq.Array(&values)); err != nil {
				yield(nil, fmt.Errorf("read a row: %w", err))
				return
			}
			if !yield(values, nil) {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(nil, fmt.Errorf("read rows: %w", err))
		}
	}
}
