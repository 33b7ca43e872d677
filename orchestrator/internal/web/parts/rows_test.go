package parts_test

import (
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/parts"
)

func TestMain(m *testing.M) { os.Exit(dbtest.Main(m)) }

func TestRows(t *testing.T) {
	pool, err := db.Open(t.Context(), dbtest.URL(t), 2)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if _, err := pool.ExecContext(t.Context(), `
		create table public."Rows %" as
		select n as "the n", 'row ' || n as text, n % 2 as parity from generate_series(1, 25) as n`); err != nil {
		t.Fatal(err)
	}
	defer pool.Exec(`drop table public."Rows %"`)

	for _, test := range []struct {
		query, first, last, summary string
		hasMore                     bool
	}{
		{"", "1", "10", "25 rows", true},
		{"page=3", "21", "25", "25 rows", false},
		{"sort=-the+n", "25", "16", "25 rows", true},
		{"sort=parity&page=2", "22", "15", "25 rows", true},
		{"where.text=ROW+2", "2", "25", "7 rows with these values", false},
		{"where.the+n=%3E20&where.parity=1", "21", "25", "3 rows with these values", false},
		{"where.the+n=99", "", "", "0 rows with these values", false},
	} {
		address := &url.URL{Path: "/x", RawQuery: test.query}
		rows, err := parts.ReadRows(t.Context(), pool, `public."Rows %"`, address, 10)
		if err != nil {
			t.Errorf("%s: %v", test.query, err)
			continue
		}
		first, last := "", ""
		if len(rows.Lines) > 0 {
			first, last = rows.Lines[0][0].Text, rows.Lines[len(rows.Lines)-1][0].Text
		}
		if first != test.first || last != test.last || rows.Summary() != test.summary || (rows.Next() != "") != test.hasMore {
			t.Errorf("%s: from %s to %s, %s, next %q", test.query, first, last, rows.Summary(), rows.Next())
		}
		if !rows.Columns[0].IsNumber || rows.Columns[1].IsNumber {
			t.Errorf("%s: which columns are numbers: %+v", test.query, rows.Columns)
		}
	}

	_, err = parts.ReadRows(t.Context(), pool, `public."Rows %"`, &url.URL{RawQuery: "sort=nope"}, 10)
	if problem := db.Explain(err); err == nil || problem.Status >= 500 || !strings.Contains(problem.Message, "has no column nope") {
		t.Errorf("an unknown column: %v", err)
	}
}
