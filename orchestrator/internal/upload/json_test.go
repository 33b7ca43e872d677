package upload_test

import (
	"fmt"
	"io"
	"net/url"
	"strings"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
)

// loadFile loads a file of that name into table t, and returns the columns and the rows.
func loadFile(t *testing.T, name, text, options string) (columns, got string, err error) {
	t.Helper()
	pool, _ := dbtest.Schema(t)
	values, err := url.ParseQuery(options)
	if err != nil {
		t.Fatal(err)
	}
	values.Set("table", "t")
	request, err := upload.NewRequest(name, values)
	if err != nil {
		return "", "", err
	}
	done, err := upload.Load(t.Context(), pool, strings.NewReader(text), request)
	if err != nil {
		return "", "", err
	}
	var types []string
	for _, column := range done.Columns {
		types = append(types, column.Name+" "+column.Type)
	}
	return strings.Join(types, ", "), rows(t, pool, "t"), nil
}

func TestLoadJSON(t *testing.T) {
	long := strings.Repeat(" ", 300<<10)
	for _, test := range []struct{ name, file, text, options, columns, want string }{
		{"lines", "a.jsonl", `{"a":1,"b":"x"}` + "\n\n" + `{"b":"y","a":2}` + "\r\n", "",
			"a integer, b text", `[{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]`},
		{"a list", "a", ` [ {"a":1} , {"a":2} ] `, "", "a integer", `[{"a": 1}, {"a": 2}]`},
		{"objects of several lines", "a.json", "{\n \"a\": 1\n}\n{\n \"a\": 2\n}", "", "a integer", `[{"a": 1}, {"a": 2}]`},
		{"a sequence of RFC 7464", "a", "\x1e{\"a\":1}\n\x1e{\"a\":2}\n", "", "a integer", `[{"a": 1}, {"a": 2}]`},
		{"an object at the end without a line end", "a.jsonl", `{"a":1}`, "", "a integer", `[{"a": 1}]`},
		{"later keys", "a.jsonl", `{"a":1}` + "\n" + `{"b":2}` + "\n", "", "a integer, b integer", `[{"a": 1, "b": null}, {"a": null, "b": 2}]`},
		{"much later keys", "a.jsonl", `{"a":1}` + "\n" + fmt.Sprintf(`{"a":%q}`, long) + "\n" + `{"b":{"c":2},"007":"007"}` + "\n",
			"trim=yes&quoted_empty=null", "a integer, b jsonb, 007 text",
			`[{"a": 1, "b": null, "007": null}, {"a": null, "b": null, "007": null}, {"a": null, "b": {"c": 2}, "007": "007"}]`},
		{"texts and numbers", "a.jsonl", `{"s":"007","n":12345678901234567890123,"m":1.50,"e":1e3,"z":-0,"d":1.5e-7}`, "",
			"s text, n numeric, m numeric, e double precision, z integer, d double precision",
			`[{"d": 0.00000015, "e": 1000, "m": 1.50, "n": 12345678901234567890123, "s": "007", "z": 0}]`},
		{"null and the empty text", "a.jsonl", `{"a":null,"b":""}`, "", "a text, b text", `[{"a": null, "b": ""}]`},
		{"a given null", "a.jsonl", `{"a":"n/a"}` + "\n" + `{"a":5}`, "null=n/a", "a integer", `[{"a": null}, {"a": 5}]`},
		{"nested values", "a.jsonl", `{"a":[1,{"b":null}]}` + "\n" + `{"a":{}}`, "", "a jsonb", `[{"a": [1, {"b": null}]}, {"a": {}}]`},
		{"nested beside plain values", "a.jsonl", `{"a":[1]}` + "\n" + `{"a":"x"}`, "", "a text", `[{"a": "[1]"}, {"a": "x"}]`},
		{"nested beside plain values, as JSON", "a.jsonl", `{"a":[1]}` + "\n" + `{"a":"x"}`, "type=a%3Djsonb", "a jsonb", `[{"a": [1]}, {"a": "x"}]`},
		{"nested after much else", "a.jsonl", fmt.Sprintf(`{"a":5,"b":%q}`, long) + "\n" + `{"a":[1]}`, "trim=yes", "a text, b text",
			`[{"a": "5", "b": ""}, {"a": "[1]", "b": null}]`},
		{"escapes", "a.jsonl", `{"a\u00e4":"\ud83d\ude00\n\"\\u"}`, "", "aä text", `[{"aä": "😀\n\"\\u"}]`},
		{"the same key, written in two ways", "a.jsonl", `{"ä":1}` + "\n" + `{"\u00e4":2}`, "", "ä integer", `[{"ä": 1}, {"ä": 2}]`},
		{"a mark before it", "a.jsonl", "\ufeff" + `{"a":1}`, "", "a integer", `[{"a": 1}]`},
		{"UTF-16", "a.json", "\xff\xfe[\x00{\x00\"\x00\xe4\x00\"\x00:\x001\x00}\x00]\x00", "", "ä integer", `[{"ä": 1}]`},
		{"a given encoding", "a.jsonl", "{\"a\":\"\xe4\"}", "encoding=LATIN1", "a text", `[{"a": "ä"}]`},
		{"a given type of a late key", "a.jsonl", fmt.Sprintf(`{"a":%q}`, long) + "\n" + `{"zip":7}`, "type=zip%3Dtext&trim=yes", "a text, zip text",
			`[{"a": "", "zip": null}, {"a": null, "zip": "7"}]`},
		{"a column for the file", "a.jsonl", `{"a":1}` + "\n" + `{"b":2}`, "file_column=f", "a integer, f text, b integer",
			`[{"a": 1, "b": null, "f": "a.jsonl"}, {"a": null, "b": 2, "f": "a.jsonl"}]`},
		{"lines left out", "a.jsonl", `{"a":1}` + "\n" + `{"a":2,"b":` + "\n" + `[3]` + "\n" + `{"a":4}`, "ragged=reject", "a integer", `[{"a": 1}, {"a": 4}]`},
		{"a CSV file of objects and more", "a.csv", `{"a":1},x` + "\n" + `{"a":2},y` + "\n", "header=no&quote=none", "column_1 text, column_2 text",
			`[{"column_1": "{\"a\":1}", "column_2": "x"}, {"column_1": "{\"a\":2}", "column_2": "y"}]`},
		{"a CSV file by order", "a.jsonl", "{\n1\n2\n", "format=csv&header=yes", "{ integer", `[{"{": 1}, {"{": 2}]`},
		{"a CSV file with a header in brackets", "a", "[a],[b]\n1,2\n3,4\n", "", "[a] integer, [b] integer", `[{"[a]": 1, "[b]": 2}, {"[a]": 3, "[b]": 4}]`},
	} {
		t.Run(test.name, func(t *testing.T) {
			columns, got, err := loadFile(t, test.file, test.text, test.options)
			if err != nil {
				t.Fatal(db.Explain(err))
			}
			if columns != test.columns || got != test.want {
				t.Errorf("got %s: %s\nwant %s: %s", columns, got, test.columns, test.want)
			}
		})
	}
}

func TestRefuseJSON(t *testing.T) {
	for _, test := range []struct{ name, file, text, options, want string }{
		{"nothing", "a.json", "[]", "", "the file has no records"},
		{"a list of numbers", "a.json", "[\n1]", "", "line 2: a number stands where an object must be"},
		{"an open list", "a.json", `[{"a":1},` + "\n", "", "line 2: the list does not close"},
		{"no comma", "a.json", `[{"a":1}` + "\n" + `{"a":2}]`, "", "line 2: a comma or ] must follow the object"},
		{"an open object", "a.json", "[{\n\"a\":1", "", "line 1: the object does not close"},
		{"a broken line", "a.jsonl", `{"a":1}` + "\n" + `{"a":}` + "\n", "", "line 2: not JSON: "},
		{"a line cut off", "a.jsonl", `{"a":1}` + "\n" + `{"a":"x`, "", "line 2: not JSON: the line ends too early"},
		{"a line of two", "a.jsonl", `{"a":1}` + "\n" + `{"a":2} {"a":3}`, "", "line 2: not JSON: the line goes on after the object"},
		{"a key twice", "a.jsonl", `{"a":1}` + "\n" + `{"a":2,"a":3}`, "", "line 2: a key is there twice"},
		{"a zero", "a.jsonl", `{"a":1}` + "\n" + `{"a":"\u0000"}`, "", `line 2: a text has \u0000`},
		{"a zero within", "a.jsonl", `{"a":1}` + "\n" + `{"a":["\\\u0000"]}`, "", `line 2: a text has \u0000`},
		{"half a character", "a.jsonl", `{"a":1}` + "\n" + `{"a":"\ud800"}`, "", `line 2: not JSON: invalid`},
		{"bytes that are no text", "a.jsonl", `{"a":1}` + "\n" + "{\"a\":\"\xff\"}", "", "line 2: bytes that are not text"},
		{"deep nesting", "a.jsonl", `{"a":1}` + "\n" + `{"a":` + strings.Repeat("[", 501) + strings.Repeat("]", 501) + "}", "", "line 2: a value is nested deeper than 500 levels"},
		{"too many keys", "a.jsonl", manyKeys(1601), "", "line 1601 has a key beyond the 1600 different ones"},
		{"an option for CSV", "a.jsonl", `{"a":1}`, "delimiter=%3B", "delimiter is no option for JSON lines"},
		{"a type for no key", "a.jsonl", `{"a":1}`, "type=b%3Dtext", `the file has no column "b"`},
		{"a value that does not fit", "a.jsonl", `{"a":1}` + "\n" + `{"a":"x"}`, "type=a%3Dinteger", "line 2, column a"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, got, err := loadFile(t, test.file, test.text, test.options); err == nil || !strings.Contains(db.Explain(err).String(), test.want) {
				t.Errorf("got %s, %v, want %q", got, db.Explain(err), test.want)
			}
		})
	}
}

// manyKeys are objects that have a key each.
func manyKeys(count int) string {
	var b strings.Builder
	for i := range count {
		fmt.Fprintf(&b, "{\"k%d\":1}\n", i)
	}
	return b.String()
}

// Objects without an end do not fill the memory.
func TestRefuseJSONWithoutEnd(t *testing.T) {
	dbtest.SameOnEveryServer(t)
	pool, _ := dbtest.Schema(t)
	for limit, want := range map[int64]string{1 << 20: "more than 1048576 bytes", 0: "an object is longer than 128 MB"} {
		endless := io.MultiReader(strings.NewReader(`[{"a":"`), io.LimitReader(repeated("x"), 1<<30))
		_, err := upload.Load(t.Context(), pool, endless, upload.Request{Source: "a.json", MaxBytes: limit})
		if err == nil || !strings.Contains(db.Explain(err).String(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

type repeated string

func (r repeated) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = r[i%len(r)]
	}
	return len(p), nil
}

// A table that exists takes a file of objects: a key that no object has is NULL, a further one is refused or added.
func TestAppendJSON(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	long := strings.Repeat("x", 300<<10)
	if _, err := load(t, pool, "t.csv", "id,a,o\n1,x,\n"); err != nil {
		t.Fatal(err)
	}
	dbtest.Exec(t, pool, "create unique index on t (id)")
	for _, test := range []struct{ name, mode, options, text, want string }{
		{"append", "append", "", `{"id":2}`, ""},
		{"a key for no column", "append", "", `{"id":3,"b":1}`, "b: only in the file"},
		{"a late key for no column", "append", "", fmt.Sprintf(`{"id":3,"a":%q}`, long) + "\n" + `{"id":4,"b":1}`, "b: only in the file"},
		{"a late key, added", "append", "new_columns=add", fmt.Sprintf(`{"id":3,"a":%q}`, long) + "\n" + `{"id":4,"b":{"c":1}}`, ""},
		{"missing columns", "append", "missing_columns=refuse", `{"id":5}`, "a: only in the table"},
		{"upsert", "upsert", "key=id", `{"id":3,"a":"y"}`, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			options, _ := url.ParseQuery(test.options)
			options.Set("mode", test.mode)
			request, err := upload.NewRequest("t.jsonl", options)
			if err != nil {
				t.Fatal(err)
			}
			_, err = upload.Load(t.Context(), pool, strings.NewReader(test.text), request)
			if got := fmt.Sprint(db.Explain(err)); (err == nil) != (test.want == "") || !strings.Contains(got, test.want) {
				t.Errorf("got %s, want %q", got, test.want)
			}
		})
	}
	want := `[{"a": "x", "b": null, "o": null, "id": 1}, {"a": null, "b": null, "o": null, "id": 2}, ` +
		`{"a": null, "b": {"c": 1}, "o": null, "id": 4}, {"a": "y", "b": null, "o": null, "id": 3}]`
	if got := strings.ReplaceAll(rows(t, pool, "t"), long, "long"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// Objects of several files go into one table by their keys, beside CSV.
func TestLoadSeveralFilesOfJSON(t *testing.T) {
	for _, test := range []struct {
		name, options string
		texts         []string
		want          string
	}{
		{"keys come and go", "", []string{`{"a":1,"o":[]}`, `[{"b":2},{"a":3}]`},
			`[{"a": 1, "b": null, "o": []}, {"a": null, "b": 2, "o": null}, {"a": 3, "b": null, "o": null}]`},
		{"the name of the file", "file_column=f", []string{`{"a":1}`, `{"b":2,"a":4}`},
			`[{"a": 1, "b": null, "f": 0}, {"a": 4, "b": 2, "f": 1}]`},
		{"new keys ignored", "new_columns=ignore", []string{`{"a":1}`, `{"b":2,"a":4}`}, `[{"a": 1}, {"a": 4}]`},
		{"new keys refused", "new_columns=refuse", []string{`{"a":1}`, `{"b":2,"a":4}`}, ""},
		{"CSV among them", "", []string{`{"a":1,"o":{}}`, "o,a\nx,2\ny,3\n"}, `[{"a": 1, "o": "{}"}, {"a": 2, "o": "x"}, {"a": 3, "o": "y"}]`},
		{"a column that is JSON only in one", "", []string{`{"a":[1]}`, `{"a":5}`}, `[{"a": "[1]"}, {"a": "5"}]`},
	} {
		t.Run(test.name, func(t *testing.T) {
			pool, _ := dbtest.Schema(t)
			options, _ := url.ParseQuery(test.options)
			options.Set("table", "t")
			request, err := upload.NewRequest("0", options)
			if err != nil {
				t.Fatal(err)
			}
			_, err = upload.Load(t.Context(), pool, &series{strings.NewReader(test.texts[0]), [][2]string{{"1", test.texts[1]}}}, request)
			if (err == nil) != (test.want != "") {
				t.Fatal(db.Explain(err))
			}
			if err == nil && rows(t, pool, "t") != test.want {
				t.Errorf("got %s, want %s", rows(t, pool, "t"), test.want)
			}
		})
	}
}
