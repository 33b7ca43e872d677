package source_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/xuri/excelize/v2"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
)

// An export is a table: its first row names the columns. A cell that is absent is "".
type export [][]string

// formats are ways of writing an export.
func formats() map[string]func(*testing.T, export) string {
	return map[string]func(*testing.T, export) string{"csv": asCSV, "jsonl": asJSON, "xlsx": asWorkbook}
}

func asCSV(_ *testing.T, e export) string {
	var text strings.Builder
	for _, row := range e {
		text.WriteString(strings.Join(row, ",") + "\n")
	}
	return text.String()
}

func asJSON(t *testing.T, e export) string {
	var text strings.Builder
	for i, row := range e {
		if i == 0 {
			continue
		}
		object := make(map[string]any)
		for column, cell := range row {
			switch {
			case json.Valid([]byte(cell)):
				object[e[0][column]] = json.RawMessage(cell)
			case cell != "":
				object[e[0][column]] = cell
			}
		}
		line, err := json.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		text.Write(append(line, '\n'))
	}
	return text.String()
}

func asWorkbook(t *testing.T, e export) string {
	book := excelize.NewFile()
	defer book.Close()
	for i, row := range e {
		cells := make([]any, len(row))
		for j, cell := range row {
			if cell != "" {
				cells[j] = cell
			}
			var number float64
			if json.Unmarshal([]byte(cell), &number) == nil {
				cells[j] = number
			}
		}
		if err := book.SetSheetRow("Sheet1", fmt.Sprintf("A%d", i+1), &cells); err != nil {
			t.Fatal(err)
		}
	}
	var file bytes.Buffer
	if err := book.Write(&file); err != nil {
		t.Fatal(err)
	}
	return file.String()
}

// Whatever a source's file is written in, and whatever the mode: what its options do not let in leaves the table as it was,
// and a view on the table stays.
func TestDriftOfEachFormat(t *testing.T) {
	pool := schema(t)
	first := export{{"id", "amount", "name"}, {"1", "1.5", "a"}, {"2", "2.5", "b"}, {"3", "3.5", "c"}, {"4", "4.5", "d"}}
	cases := []struct {
		name string
		// options are those of the source; empty for one that accepts files without rows.
		options string
		file    export
		// refused is how the error begins; empty when the file is let in and the table has rows.
		refused, rows string
		// but are formats for which it is otherwise: "" is imported.
		but map[string]string
	}{
		{"fewer rows", `{}`, export{first[0], first[1]}, "the file has 1 row, and the last one had 4 rows", "1|1.5|a", nil},
		{"a share of the rows that is enough", `{}`, export{first[0], {"8", "8.5", "x"}, {"9", "9.5", "y"}}, "", "8|8.5|x,9|9.5|y", nil},
		{"no rows", `{}`, export{first[0]}, "the file has no rows", "", nil},
		{"no rows, let in", "", export{first[0]}, "", "", nil},
		{"nothing", `{}`, nil, "", "", map[string]string{"csv": "the file is empty", "jsonl": "the file has no rows", "xlsx": "the workbook cannot be read: none of its sheets has values"}},
		{"whole numbers where there were fractions", `{}`, export{first[0], {"8", "8", "x"}, {"9", "9", "y"}}, "", "8|8|x,9|9|y", nil},
		{"numbers where there was text", `{}`, export{first[0], {"8", "8.5", "7"}, {"9", "9.5", "8"}}, "", "8|8.5|7,9|9.5|8", nil},
		{"a column without values", `{}`, export{first[0], {"8", "", "x"}, {"9", "", "y"}}, "", "8|x,9|y", nil},
		{"a new column", `{}`, export{{"id", "amount", "name", "new"}, {"8", "8.5", "x", "1"}, {"9", "9.5", "y", "2"}},
			"the columns differ from those of table", "", nil},
		{"a new column, added", `{"new_columns": "add"}`, export{{"id", "amount", "name", "new"}, {"8", "8.5", "x", "1"}, {"9", "9.5", "y", "2"}},
			"", "8|8.5|x|1,9|9.5|y|2", nil},
		{"a new column, ignored", `{"new_columns": "ignore"}`, export{{"id", "amount", "name", "new"}, {"8", "8.5", "x", "1"}, {"9", "9.5", "y", "2"}},
			"", "8|8.5|x,9|9.5|y", nil},
		{"a missing column", `{}`, export{{"id", "name"}, {"8", "x"}, {"9", "y"}}, "the columns differ from those of table", "8|x,9|y",
			map[string]string{"jsonl": ""}},
		{"a missing column, refused", `{"missing_columns": "refuse"}`, export{{"id", "name"}, {"8", "x"}, {"9", "y"}},
			"the columns differ from those of table", "", nil},
		{"a missing column, NULL", `{"missing_columns": "null"}`, export{{"id", "name"}, {"8", "x"}, {"9", "y"}}, "", "8|x,9|y", nil},
		{"a wider number", `{}`, export{first[0], {"3000000000", "8.5", "x"}, {"9", "9.5", "y"}}, "values do not fit the columns of table", "", nil},
		{"a wider number, let in", `{"widen": "yes"}`, export{first[0], {"3000000000", "8.5", "x"}, {"9", "9.5", "y"}},
			"", "9|9.5|y,3000000000|8.5|x", nil},
		{"text among numbers", `{}`, export{first[0], {"8", "8.5", "x"}, {"x9", "9.5", "y"}}, "values do not fit the columns of table", "", nil},
		{"text among numbers, let in", `{"widen": "yes"}`, export{first[0], {"8", "8.5", "x"}, {"x9", "9.5", "y"}}, "", "8|8.5|x,x9|9.5|y", nil},
		{"text where a view reads numbers", `{"widen": "yes"}`, export{first[0], {"8", "x8", "x"}, {"9", "9.5", "y"}},
			"table", "", nil},
	}
	// A drifting source has brought the first file, and brings the second.
	type drifting struct {
		name, source, table, refused, rows string
		second                             *origin
		text                               string
	}
	const old = "1|1.5|a,2|2.5|b,3|3.5|c,4|4.5|d"
	var all []drifting
	begin(t, pool, upload.Limits{})
	for i, test := range cases {
		for format, write := range formats() {
			for _, mode := range []string{"replace", "append"} {
				d := drifting{name: strings.Join([]string{test.name, format, mode}, ", "), table: fmt.Sprintf("drift%d_%s_%s", i, format, mode),
					refused: test.refused, rows: test.rows, second: newOrigin(t, give(write(t, first))), text: write(t, test.file)}
				if other, isOther := test.but[format]; isOther {
					d.refused = other
				}
				switch {
				case d.refused != "":
					d.rows = old
				case mode == "append":
					d.rows = strings.TrimSuffix(old+","+test.rows, ",")
				}
				how := fmt.Sprintf("refuse_if_fewer => 0.5, options => '%s'", test.options)
				if test.options == "" {
					how = "accepts_empty => true"
				}
				d.source = create(t, pool, d.table, d.second.URL+"/export."+format, fmt.Sprintf(", mode => '%s', %s", mode, how))
				all = append(all, d)
			}
		}
	}
	for _, d := range all {
		await(t, pool, d.source, "imported", 1)
		dbtest.Exec(t, pool, fmt.Sprintf("create view %s_amounts as select amount from %[1]s", d.table))
		d.second.now(give(d.text))
		again(t, pool, d.source)
	}
	for _, d := range all {
		t.Run(d.name, func(t *testing.T) {
			want := "imported"
			if d.refused != "" {
				want = "failed"
			}
			if got := await(t, pool, d.source, want, 2); !strings.HasPrefix(got, d.refused) || (got == "") != (d.refused == "") {
				t.Errorf("the error is %q, want %q", got, d.refused)
			}
			got := dbtest.Value[string](t, pool, fmt.Sprintf(`
				select coalesce(string_agg(
				           array_to_string(
				               array(select value from jsonb_each_text(to_jsonb(rows)) order by array_position('{id,amount,name,new}', key)), '|'),
				           ',' order by length(id::text), id::text), '')
				  from %s as rows`, d.table))
			if got != d.rows {
				t.Errorf("the table has %s, want %s", got, d.rows)
			}
			dbtest.Exec(t, pool, fmt.Sprintf("select from %s_amounts", d.table))
		})
	}
}
