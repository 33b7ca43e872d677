package upload_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
)

// 007 does not become 7, nor updates the row of 7, unless the type is given.
func TestLoadKeepsLeadingZeros(t *testing.T) {
	for _, test := range []struct{ options, values, code, want string }{
		{"mode=append", "8 007", "TD006", `[{"id": 7, "name": "old"}]`},
		{"mode=append", "8 -007.5", "TD006", `[{"id": 7, "name": "old"}]`},
		{"mode=append", "8 0", "", `[{"id": 7, "name": "old"}, {"id": 8, "name": "new"}, {"id": 0, "name": "new"}]`},
		{"mode=upsert&key=id", "007", "TD006", `[{"id": 7, "name": "old"}]`},
		{"mode=upsert&key=id&type=id%3Dnumeric", "007", "", `[{"id": 7, "name": "new"}]`},
		{"mode=append&bad=reject", "8 007", "", `[{"id": 7, "name": "old"}, {"id": 8, "name": "new"}]`},
		{"mode=append&widen=yes", "8 007", "", `[{"id": "7", "name": "old"}, {"id": "8", "name": "new"}, {"id": "007", "name": "new"}]`},
	} {
		t.Run(test.options+" "+test.values, func(t *testing.T) {
			pool, _ := dbtest.Schema(t)
			dbtest.Exec(t, pool, "create table t (id numeric primary key, name text)")
			dbtest.Exec(t, pool, "insert into t values (7, 'old')")
			got, err := loadInto(t, pool, test.options, "id,name\n"+strings.ReplaceAll(test.values, " ", ",new\n")+",new\n")
			if test.code == "" {
				if err != nil || got != test.want {
					t.Errorf("got %s, %v, want %s", got, db.Explain(err), test.want)
				}
				return
			}
			problem := db.Explain(err)
			if problem.Code != test.code || !strings.Contains(problem.Hint, "--widen yes") || !strings.Contains(problem.Hint, "--type") {
				t.Errorf("got %+v", problem)
			}
			if left := rows(t, pool, "t"); left != test.want {
				t.Errorf("left %s, want %s", left, test.want)
			}
		})
	}
}

// A preview names the values for which the import would be refused.
func TestPreviewSaysWhatDoesNotFit(t *testing.T) {
	for _, test := range []struct{ name, table, options, text, want string }{
		{"a given type", "", "type=id%3Dinteger", "id,n\nx,1\n", "a value of column id cannot be read as integer: 'x'"},
		{"the type of the table", "create table t (id integer, n integer)", "mode=append", "id,n\n1,1\nx,2\n", "column id: integer cannot be read from 'x'"},
		{"zeros", "create table t (id integer)", "mode=append", "id\n007\n", "column id: integer would change '007'"},
		{"what is widened", "create table t (id integer)", "mode=append&widen=yes", "id\nx\n", ""},
		{"what is left out", "create table t (id integer)", "mode=append&bad=reject", "id\nx\n", ""},
		{"what is replaced", "create table t (id integer)", "mode=replace", "id\nx\n", ""},
		{"what fits", "create table t (id integer)", "mode=append", "id\n1\n", ""},
		{"several currencies", "", "", "a;b\n1;EUR 12,50\n2;USD 3,00\n", "column b has 2 currencies, which become a column of their own"},
		{"one currency", "", "", "a;b\n1;EUR 12,50\n2;EUR 3,00\n", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			pool, _ := dbtest.Schema(t)
			if test.table != "" {
				dbtest.Exec(t, pool, test.table)
			}
			values, err := url.ParseQuery(test.options)
			if err != nil {
				t.Fatal(err)
			}
			request, err := upload.NewRequest("t.csv", values)
			if err != nil {
				t.Fatal(err)
			}
			plan, err := upload.Preview(t.Context(), pool, strings.NewReader(test.text), request)
			if got := strings.Join(plan.Notices, "; "); err != nil || got != test.want {
				t.Errorf("got %q, %v, want %q", got, db.Explain(err), test.want)
			}
		})
	}
}

// Rows that are there already are what mode upsert is for.
func TestLoadNamesUpsert(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	dbtest.Exec(t, pool, "create table t (id integer primary key)")
	dbtest.Exec(t, pool, "insert into t values (7)")
	_, err := loadInto(t, pool, "mode=append", "id\n7\n")
	if problem := db.Explain(err); problem.Code != "23505" || !strings.Contains(problem.Hint, "--mode upsert") ||
		problem.Detail != "Key (id)=(7) already exists." {
		t.Errorf("append: %+v", problem)
	}
	_, err = loadInto(t, pool, "mode=upsert", "id\n7\n")
	if problem := db.Explain(err); !strings.Contains(problem.Hint, "--key id") {
		t.Errorf("upsert without a key: %+v", problem)
	}
}
