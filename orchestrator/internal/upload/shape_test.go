package upload_test

import (
	"database/sql"
	"net/url"
	"strings"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
)

// A file of other columns or wider values, into a table with a view.
func TestLoadOtherShapes(t *testing.T) {
	for _, test := range []struct{ name, options, text, code, says, want string }{
		{"new, refused", "mode=append", "id,a,b\n2,y,1\n", "TD006", "--new-columns add", ""},
		{"new, added", "mode=append&new_columns=add", "id,a,b\n2,y,1.5\n", "", "",
			`[{"a": "x", "b": null, "id": 1}, {"a": "y", "b": 1.5, "id": 2}]`},
		{"new, ignored", "mode=append&new_columns=ignore", "id,a,b\n2,y,1\n", "", "", `[{"a": "x", "id": 1}, {"a": "y", "id": 2}]`},
		{"missing, refused", "mode=append", "id\n2\n", "TD006", "--missing-columns null", ""},
		{"missing, NULL", "mode=append&missing_columns=null", "id\n2\n", "", "", `[{"a": "x", "id": 1}, {"a": null, "id": 2}]`},
		{"upsert of other columns", "mode=upsert&key=id&new_columns=add&missing_columns=null", "id,b\n1,5\n2,6\n", "", "",
			`[{"a": "x", "b": 5, "id": 1}, {"a": null, "b": 6, "id": 2}]`},
		{"upsert, ignored", "mode=upsert&key=id&new_columns=ignore", "id,a,b\n1,z,5\n", "", "", `[{"a": "z", "id": 1}]`},
		{"replace, added", "mode=replace&new_columns=add&missing_columns=null", "id,b\n3,5\n", "", "", `[{"a": null, "b": 5, "id": 3}]`},
		{"wider, refused", "mode=append", "id,a\n1.5,y\n", "TD006", "--widen yes", ""},
		{"wider, but a view reads it", "mode=append&widen=yes", "id,a\n1.5,y\n", "2BP01", "", ""},
		{"without a header", "mode=append", "2,7\n3,8\n", "TD006", "--columns", ""},
		{"by position", "mode=append&columns=id,a", "2,y\n", "", "", `[{"a": "x", "id": 1}, {"a": "y", "id": 2}]`},
		{"a name of combined characters", "mode=append&columns=id,A\u0301&new_columns=add&missing_columns=null", "2,y\n", "", "",
			`[{"a": "x", "id": 1, "Á": null}, {"a": null, "id": 2, "Á": "y"}]`},
		{"a header of combined characters", "mode=append&new_columns=add&missing_columns=null", "id,A\u0301\n2,y\n", "", "",
			`[{"a": "x", "id": 1, "Á": null}, {"a": null, "id": 2, "Á": "y"}]`},
		{"a bad option", "new_columns=drop", "id\n1\n", "TD007", "refuse or add or ignore", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			pool, _ := dbtest.Schema(t)
			dbtest.Exec(t, pool, "create table t (id integer primary key, a text)")
			dbtest.Exec(t, pool, "insert into t values (1, 'x'); create view v as select id from t")
			got, err := loadInto(t, pool, test.options, test.text)
			problem := db.Problem{}
			if err != nil {
				problem = db.Explain(err)
			}
			if problem.Code != test.code || !strings.Contains(problem.Hint, test.says) || got != test.want {
				t.Errorf("got %s, %+v, want %s %s", got, problem, test.code, test.want)
			}
			if err == nil && dbtest.Value[int](t, pool, "select count(*) from v") != strings.Count(got, `"id"`) {
				t.Error("the view does not read the table")
			}
		})
	}
}

func TestLoadWidens(t *testing.T) {
	for _, test := range []struct{ name, columnType, value, late, want string }{
		{"a fraction among integers", "integer", "1", "1.5", `[{"v": 1}, {"v": 1.5}]`},
		{"a large number", "integer", "1", "3000000000", `[{"v": 1}, {"v": 3000000000}]`},
		{"a word among numbers", "numeric", "1.50", "x", `[{"v": "1.50"}, {"v": "x"}]`},
		{"a long text", "varchar(2)", "ab", "abc", `[{"v": "ab"}, {"v": "abc"}]`},
		{"a moment among days", "date", "2026-01-31", "2026-01-31 10:00:00", `[{"v": "2026-01-31T00:00:00"}, {"v": "2026-01-31T10:00:00"}]`},
	} {
		t.Run(test.name, func(t *testing.T) {
			pool, _ := dbtest.Schema(t)
			dbtest.Exec(t, pool, "create table t (v "+test.columnType+")")
			dbtest.Exec(t, pool, "insert into t values ($1)", test.value)
			if got, err := loadInto(t, pool, "mode=append&widen=yes", "v\n"+test.late+"\n"); err != nil || got != test.want {
				t.Errorf("got %s, %v, want %s", got, err, test.want)
			}
		})
	}
}

// A table that was created from a header alone takes the types of the first file that has rows.
func TestLoadIntoATableWithoutRows(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	if _, err := loadInto(t, pool, "", "a,b\n"); err != nil {
		t.Fatal(err)
	}
	if got, err := loadInto(t, pool, "mode=append", "a,b\n1,2026-01-01\n"); got != `[{"a": 1, "b": "2026-01-01"}]` {
		t.Errorf("got %s, %v", got, err)
	}
	types := dbtest.Value[string](t, pool, `
		select string_agg(format_type(atttypid, atttypmod), ' ' order by attnum) from pg_attribute where attrelid = 't'::regclass and attnum > 0`)
	if types != "integer date" {
		t.Errorf("the types are %s", types)
	}
}

// The same file, with lines that are repaired, can be appended to the table that it made.
func TestLoadPadsTwice(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	for _, mode := range []string{"", "&mode=append", "&mode=append"} {
		text := "a,b\n1,2\n3,4,x\n"
		if mode == "&mode=append" {
			text = "a,b\n1,2\n"
		}
		if _, err := loadInto(t, pool, "ragged=pad"+mode, text); err != nil {
			t.Errorf("%s: %v", mode, db.Explain(err))
		}
	}
}

func loadInto(t *testing.T, pool *sql.DB, options, text string) (string, error) {
	t.Helper()
	values, err := url.ParseQuery(options)
	if err != nil {
		t.Fatal(err)
	}
	request, err := upload.NewRequest("t.csv", values)
	if err != nil {
		return "", err
	}
	if _, err := upload.Load(t.Context(), pool, strings.NewReader(text), request); err != nil {
		return "", err
	}
	return rows(t, pool, "t"), nil
}
