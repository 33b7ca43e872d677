package definitions

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

// testKeys are some of the real ones.
var testKeys = Keys{
	"table": {{"table", "tracked", "boolean", false}},
	"view": {
		{"view", "description", "text", false}, {"view", "schedule", "text", false}, {"view", "notify_after", "number", false},
		{"view", "key", "list", false}, {"view", "query", "query", false},
	},
	"source":       {{"source", "url", "text", true}, {"source", "headers", "object", true}, {"source", "options", "object", false}},
	"subscription": {{"subscription", "url", "text", true}, {"subscription", "message", "text", false}},
}

func environment(name string) string {
	return map[string]string{"URL": "https://example.com/secret", "TOKEN": "abc"}[name]
}

// folder writes files to a folder.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		file := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// What is wrong in a file is said with its line.
func TestErrorsOfFiles(t *testing.T) {
	tests := []struct{ name, file, text, want string }{
		{"unknown key", mainFile, "sources:\n  a:\n    url: x\n    ulr: x\n", "tinydevcrm.yaml:4: unknown key ulr of a source"},
		{"unknown part", mainFile, "tables: {}\nviews:\n  a: {}\n", "tinydevcrm.yaml:2: unknown key views"},
		{"a name twice", mainFile, "tables:\n  a: {}\n  a: {}\n", "tinydevcrm.yaml:3: a is there twice"},
		{"a key twice", mainFile, "sources:\n  a:\n    url: x\n    url: y\n", "tinydevcrm.yaml:4: url is there twice"},
		{"no mapping", mainFile, "tables: [a, b]\n", "tinydevcrm.yaml:1: this is no list of names and values"},
		{"no YAML", mainFile, "tables:\n  a: {\n", "tinydevcrm.yaml"},
		{"a second document", mainFile, "tables: {}\n---\ntables: {}\n", "a second document"},
		{"no boolean", mainFile, "tables:\n  a:\n    tracked: yess\n", `tinydevcrm.yaml:3: tracked cannot be "yess"`},
		{"an alias", mainFile, "sources:\n  a: &a {url: x}\n  b: *a\n", "tinydevcrm.yaml:3: this is no list"},
		{"an alias as text", mainFile, "sources:\n  a:\n    url: &u x\n  b:\n    url: *u\n", "tinydevcrm.yaml:5: url cannot be this"},
		{"an alias that holds itself", mainFile, "sources:\n  a:\n    options: &o {x: [*o]}\n", "anchors and aliases are not available"},
		{"a merge", mainFile, "sources:\n  a: &a {url: x}\n  b: {<<: *a}\n", "unknown key <<"},
		{"a list for a text", mainFile, "sources:\n  a:\n    url: [x]\n", "url cannot be this"},
		{"a reference that is none", mainFile, "sources:\n  a:\n    url: ${UR L}\n", "tinydevcrm.yaml:3: url has a ${ that names no variable"},
		{"an open reference", mainFile, "sources:\n  a:\n    url: ${URL\n", "url has a ${ that names no variable"},
		{"no UTF-8", mainFile, "tables: {\"\xff\": {}}\n", "tinydevcrm.yaml: it is not UTF-8"},
		{"unknown key of a view", "views/v.sql", "-- description: x\n-- shedule: hourly\n\nselect 1\n", "views/v.sql:2: unknown key shedule of a view"},
		{"a query among the settings", "views/v.sql", "-- query: select 1\n\nselect 1\n", "views/v.sql:1: query is no key"},
		{"a comment at the top", "views/v.sql", "-- what is late\nselect 1\n", `views/v.sql:1: "what is late" is no setting`},
		{"no number", "views/v.sql", "-- notify_after: two\n\nselect 1\n", `views/v.sql:1: notify_after cannot be "two"`},
		{"hexadecimal", "views/v.sql", "-- notify_after: 0x10\n\nselect 1\n", "views/v.sql:1: notify_after cannot be"},
		{"a list in a list", "views/v.sql", "-- key: [[a]]\n\nselect 1\n", "views/v.sql:1: key cannot be this"},
		{"too deep", "views/a/b/c.sql", "select 1\n", "views/a/b/c.sql: this is not the file of a view"},
		{"no name", "views/%zz.sql", "select 1\n", "views/%zz.sql: this is not the file of a view"},
		{"a name that is no UTF-8", "views/%FF.sql", "select 1\n", "views/%FF.sql: this is not the file of a view"},
		{"a name with a zero byte", "views/a%00.sql", "select 1\n", "views/a%00.sql: this is not the file of a view"},
		{"too large", "views/v.sql", strings.Repeat("-", maxFile+1), "views/v.sql: it has more than 16 MB"},
		{"nothing", "view/v.sql", "select 1\n", "there is neither tinydevcrm.yaml nor a file in views"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := Read(folder(t, map[string]string{test.file: test.text}), testKeys, environment)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("it says %v, want %q", err, test.want)
			}
		})
	}
}

// A link does not lead out of the folder, and hides no files of it.
func TestLinks(t *testing.T) {
	outside := folder(t, map[string]string{"v.sql": "a secret of the machine\n", mainFile: "a secret: of the machine\n"})
	tests := []struct{ name, to, link, want string }{
		{"a view of another folder", filepath.Join(outside, "v.sql"), "views/l.sql", "views/l.sql: it cannot be read"},
		{"the other definitions of another folder", filepath.Join(outside, mainFile), mainFile, "tinydevcrm.yaml: it cannot be read"},
		{"all views of another folder", outside, "views", "views: it cannot be read"},
		{"a link to itself", "l.sql", "views/l.sql", "views/l.sql: it cannot be read"},
		// With --prune the views of the schema would be dropped.
		{"a schema elsewhere", filepath.Join("..", "kept"), "views/sales", "views/sales: a link to a folder is not followed"},
		{"a device", os.DevNull, "views/l.sql", "views/l.sql: it cannot be read"},
		{"a view within the folder", filepath.Join("..", "kept", "v.sql"), "views/l.sql", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			root := folder(t, map[string]string{"kept/v.sql": "select 1\n"})
			link := filepath.Join(root, filepath.FromSlash(test.link))
			if err := os.MkdirAll(filepath.Dir(link), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(test.to, link); err != nil {
				t.Fatal(err)
			}
			wanted, err := Read(root, testKeys, environment)
			if test.want == "" {
				if err != nil || len(wanted) != 1 {
					t.Errorf("it reads %v: %v", wanted, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("it says %v, want %q", err, test.want)
			}
		})
	}
}

// A pipe is no file, and nobody waits for who writes to it.
func TestPipe(t *testing.T) {
	root := folder(t, map[string]string{"views/v.sql": "select 1\n"})
	if err := syscall.Mkfifo(filepath.Join(root, "views", "p.sql"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(root, testKeys, environment); err == nil || !strings.Contains(err.Error(), "views/p.sql: it is no file") {
		t.Errorf("it says %v", err)
	}
}

func TestTwoFilesOfOneView(t *testing.T) {
	_, err := Read(folder(t, map[string]string{"views/v.sql": "select 1", "views/%76.sql": "select 1"}), testKeys, environment)
	if err == nil || !strings.Contains(err.Error(), "views/v.sql: views/%76.sql is of the same view") {
		t.Errorf("it says %v", err)
	}
}

// Each variable that is not set is named with its place, and no value is shown.
func TestReferences(t *testing.T) {
	wanted, err := Read(folder(t, map[string]string{mainFile: `
sources:
  a:
    url: ${URL}
    headers: {Authorization: "Bearer ${TOKEN}", X-Number: 5, X-Plain: "$${TOKEN}"}
`}), testKeys, environment)
	if err != nil {
		t.Fatal(err)
	}
	document, err := json.Marshal(wanted)
	if err != nil {
		t.Fatal(err)
	}
	const want = `[{"kind":"source","name":"a","schema":null,` +
		`"definition":{"headers":{"Authorization":"Bearer abc","X-Number":"5","X-Plain":"${TOKEN}"},"url":"https://example.com/secret"},` +
		`"texts":{"headers":{"Authorization":"Bearer ${TOKEN}","X-Number":"5","X-Plain":"$${TOKEN}"},"url":"${URL}"}}]`
	if string(document) != want {
		t.Errorf("it is %s\nwant  %s", document, want)
	}

	_, err = Read(folder(t, map[string]string{mainFile: "sources:\n  a:\n    url: ${GONE}\nsubscriptions:\n  s:\n    url: x${LOST}\n"}), testKeys, environment)
	const missing = "tinydevcrm.yaml:3: source a, url: GONE is not set\ntinydevcrm.yaml:6: subscription s, url: LOST is not set"
	if detail := db.Explain(err).Detail; detail != missing {
		t.Errorf("it says %q, want %q", detail, missing)
	}
}

// Names that a file system refuses or changes have files that any system can hold, and are read back as they were.
func TestNamesOfFiles(t *testing.T) {
	tests := map[string]string{
		"late_orders": "late_orders", "größe-2.0": "größe-2.0", "a/b": "a%2Fb", `a\b`: "a%5Cb", ".": "%2E", "..": "%2E%2E", ".git": "%2Egit",
		"CON": "%43ON", "con.x": "%63on.x", "com¹": "%63om%C2%B9", "console": "console", "a b": "a%20b", "100%": "100%25", "%2F": "%252F", "a\nb": "a%0Ab",
		"a:b*?\"<>|": "a%3Ab%2A%3F%22%3C%3E%7C", "x.": "x%2E", "e\u0301": "e%CC%81", "日本": "日本",
	}
	for name, want := range tests {
		got := viewPath("", name, false)
		if got != "views/"+want+".sql" {
			t.Errorf("the file of %q is %q, want %q", name, got, want)
		}
		for _, hidesCase := range []bool{false, true} {
			schema, back, err := readViewPath(viewPath("S/", name, hidesCase))
			if err != nil || *schema != "S/" || back != name {
				t.Errorf("%q is read as %q: %v", name, back, err)
			}
		}
	}
	views := []Definition{{Relname: "Orders"}, {Relname: "orders"}, {Relname: "ORDERS"}, {Relname: "Sums"}}
	if got := viewPaths(views); !slices.Equal(got, []string{"views/%4Frders.sql", "views/orders.sql", "views/%4F%52%44%45%52%53.sql", "views/Sums.sql"}) {
		t.Errorf("the files are %q", got)
	}
}

// What is written is read back as it was, and written the same way again.
func TestWriteAndRead(t *testing.T) {
	texts := []string{
		"plain", "", " ", "true", "null", "~", "12", "1e3", "2026-01-01", "00:10:00", "a: b", "a #b", "- a", "'", `"`, "a\nb", "a\nb\n", "a\n\n\n",
		"\na", " a\nb", "a \nb", "a\r\nb", "\r", "a\tb\n\tc", "\u0085", "a\u2028b", "\x01", "--", "-- select 1;", "*/", "ünï", "日本\n語", "😀", "{{view}}: {{#x}}\n{{/x}}",
		"${A}", "${A} with another value", strings.Repeat("long ", 100), "? a", "&a", "*a", "!x", "%a", "@a", "`a", "|", ">", "a:", ":a", "=", "<<", "[a]", "{a}", "a,b", "\ufeffa",
	}
	queries := []string{
		"select 1", "-- why\nselect 1", "-- a: b\n\n-- c\nselect 1;", "   select 1", "select '\n\n--  x'  as a", "/* x */ select 1 -- y", "select E'\\n'", "values (1)", "select 'ünï'",
	}
	var definitions []Definition
	for i, text := range texts {
		raw, _ := json.Marshal(text)
		list, _ := json.Marshal([]string{text, text})
		query, _ := json.Marshal(queries[i%len(queries)])
		options, _ := json.Marshal(map[string]any{"x" + text: text, "n": 1.5, "list": []any{text, true, nil, map[string]any{}}})
		name := "n" + text[:min(len(text), 20)]
		definitions = append(definitions,
			Definition{Kind: "view", Relname: name, Values: map[string]json.RawMessage{"description": raw, "key": list, "query": query, "notify_after": []byte("2")}},
			Definition{Kind: "source", Name: name, Values: map[string]json.RawMessage{"options": options}},
			Definition{Kind: "subscription", Name: name, Values: map[string]json.RawMessage{"message": raw}},
			Definition{Kind: "table", Name: name, Values: map[string]json.RawMessage{"tracked": []byte("false")}})
	}
	first, second := t.TempDir(), t.TempDir()
	if _, err := Write(first, testKeys, definitions); err != nil {
		t.Fatal(err)
	}
	wanted, err := Read(first, testKeys, environment)
	if err != nil {
		t.Fatal(err)
	}
	if len(wanted) != len(definitions) {
		t.Fatalf("%d definitions are read, want %d", len(wanted), len(definitions))
	}
	var again []Definition
	for _, one := range wanted {
		values := make(map[string]json.RawMessage)
		for key, value := range one.Definition {
			if key == "query" {
				// As tinydevcrm._trim_query() does.
				value = strings.TrimRight(strings.TrimLeft(value.(string), "\n"), "\n")
			}
			values[key], _ = json.Marshal(value)
		}
		again = append(again, Definition{Kind: one.Kind, Name: one.Name, Relname: one.Name, Values: values})
	}
	for _, definition := range definitions {
		name := definition.Name + definition.Relname
		i := slices.IndexFunc(again, func(d Definition) bool { return d.Kind == definition.Kind && d.Name == name })
		if i < 0 {
			t.Errorf("%s %q is gone", definition.Kind, name)
			continue
		}
		isSame := func(a, b json.RawMessage) bool {
			var x, y any
			return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && jsonText(x) == jsonText(y)
		}
		if !maps.EqualFunc(definition.Values, again[i].Values, isSame) {
			t.Errorf("%s %q is %s, want %s", definition.Kind, name, again[i].Values, definition.Values)
		}
	}
	slices.SortStableFunc(again, func(a, b Definition) int {
		position := func(d Definition) int {
			return slices.IndexFunc(definitions, func(o Definition) bool { return o.Kind == d.Kind && o.Name+o.Relname == d.Name })
		}
		return position(a) - position(b)
	})
	if _, err := Write(second, testKeys, again); err != nil {
		t.Fatal(err)
	}
	if a, b := contents(t, first), contents(t, second); !maps.Equal(a, b) {
		for file := range a {
			if a[file] != b[file] {
				t.Errorf("%s is\n%s\nand then\n%s", file, a[file], b[file])
			}
		}
	}
}

func jsonText(value any) string {
	text, _ := json.Marshal(value)
	return string(text)
}

// contents are the files of a folder.
func contents(t *testing.T, root string) map[string]string {
	t.Helper()
	found := make(map[string]string)
	err := filepath.WalkDir(root, func(file string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(file)
		found[strings.TrimPrefix(file, root)] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
