package upload_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
)

// A preview, or the error instead of it, offers the files in a zip and the sheets of a workbook. What is offered can be
// chosen, and the log keeps it.
func TestFilesAndSheetsAreOffered(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	book := newExcel(t).set("Sheet1", "A1", "a", "b").set("Sheet1", "A2", 1, 2).set("Old", "A1", "x", "y").text()
	file := zipOf([2]string{"may.csv", "n\n1\n"}, [2]string{"in/june.csv", "n\n2\n"}, [2]string{"\xffodd.txt", "m\n3\n"}, [2]string{"b.xlsx", book})
	offers := func(options string) (string, upload.Request) {
		t.Helper()
		values, err := url.ParseQuery(options)
		if err != nil {
			t.Fatal(err)
		}
		request, err := upload.NewRequest("bundle.zip", values)
		if err != nil {
			t.Fatal(err)
		}
		plan, err := upload.Preview(t.Context(), pool, strings.NewReader(file), request)
		if problem := db.Explain(err); err != nil && problem.Choices != nil {
			plan.Choices = []db.Choices{*problem.Choices}
		}
		shown, err := json.Marshal(plan.Choices)
		if err != nil {
			t.Fatal(err)
		}
		return strings.NewReplacer(`"value":`, "", `"label":`, "").Replace(string(shown)), request
	}
	members := `{"option":"member","values":[{"may.csv","may.csv (4 bytes)"},{"in/june.csv","in/june.csv (4 bytes)"},` +
		"{\"\uFFFDodd.txt\",\"\uFFFDodd.txt (4 bytes)\"},{\"b.xlsx\",\"b.xlsx (" + fmt.Sprintf("%.3g kB", float64(len(book))/1024) + `)"},` +
		`{"*.csv","all 2 files *.csv, into one table"},{"*","all 4 files, into one table"}]}`
	sheets := `{"option":"sheet","values":[{"Sheet1","Sheet1: a, b"},{"Old","Old: x, y"}]}`
	for _, test := range []struct {
		options, offered, dialect string
	}{
		{"", "[" + members + "]", ""},
		{"member=none.csv", "[" + members + "]", ""},
		{"member=*.csv", "[" + members + "]", `csv  ["*.csv"]`},
		{"member=%EF%BF%BDodd.txt", "[" + members + "]", "csv  [\"\uFFFDodd.txt\"]"},
		{"member=b.xlsx&sheet=old", "[" + members + "," + sheets + "]", `xlsx Old ["b.xlsx"]`},
		{"member=b.xlsx&sheet=none", "[" + sheets + "]", ""},
	} {
		t.Run(test.options, func(t *testing.T) {
			got, request := offers(test.options)
			if got != test.offered {
				t.Errorf("it offers %s, want %s", got, test.offered)
			}
			if test.dialect == "" {
				return
			}
			request.Mode = "replace"
			done, err := upload.Load(t.Context(), pool, strings.NewReader(file), request)
			if err != nil {
				t.Fatal(err)
			}
			kept := dbtest.Value[string](t, pool, `
				select concat_ws(' ', (dialect).format, coalesce((dialect).sheet, ''), to_jsonb((dialect).members)::text)
				  from tinydevcrm.imports where id = $1`, done.ID)
			if kept != test.dialect {
				t.Errorf("the log has %s, want %s", kept, test.dialect)
			}
		})
	}
}

// Of very many files one has to be named.
func TestManyFilesAreNotOffered(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	var files [][2]string
	for i := range 201 {
		files = append(files, [2]string{fmt.Sprint(i, ".csv"), "n\n1\n"})
	}
	for _, count := range []int{200, 201} {
		_, err := upload.Preview(t.Context(), pool, strings.NewReader(zipOf(files[:count]...)), upload.Request{Source: "many.zip"})
		if problem := db.Explain(err); problem.Code != "TD005" || (problem.Choices != nil) != (count == 200) {
			t.Errorf("%d files: %+v", count, problem)
		}
	}
}
