package migrations_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/migrations"
)

// newerSyntax is syntax that a parser of Postgres 12 refuses or misreads, with the version that added it.
var newerSyntax = []struct{ version, pattern string }{
	{"13", `\bwith\s+ties\b`},
	{"13", `\bis\s+(not\s+)?(nf[ck]+d?\s+)?normalized\b`},
	{"13", `\bdrop\s+database\b[^;]*\bforce\b`},
	{"13", `\bdrop\s+expression\b`},
	{"13", `\bextension\b[^;]*\bfrom\s+unpackaged\b`},
	{"13", `\bvacuum\s*\([^)]*\bparallel\b`},
	{"14", `\bbegin\s+atomic\b`},
	{"14", `\bcreate\s+or\s+replace\s+trigger\b`},
	{"14", `\bgroup\s+by\s+(all|distinct)\b`},
	{"14", `\bsearch\s+(depth|breadth)\s+first\b`},
	{"14", `\bcycle\s+\w+(\s*,\s*\w+)*\s+set\b`},
	{"14", `\bdetach\s+partition\b[^;]*\b(concurrently|finalize)\b`},
	{"14", `\bset\s+compression\b`},
	{"14", `\bprocedure\s+[\w.]+\s*\([^)]*\bout\s`},
	{"14", `\w\['\w+'\]`},
	{"15", `\bmerge\s+into\b`},
	{"15", `\bnulls\s+(not\s+)?distinct\b`},
	{"15", `\bsecurity_invoker\b`},
	{"15", `\bon\s+delete\s+set\s+(null|default)\s*\(`},
	{"15", `\bset\s+access\s+method\b`},
	{"15", `\bheader\s+match\b`},
	{"15", `\bgrant\b[^;]*\bon\s+parameter\b`},
	{"16", `\bis\s+(not\s+)?json\b`},
	{"16", `\bwith\s+(inherit|set)\s+(true|false|option)\b`},
	{"16", `\bjson_(array|object)agg\s*\(`},
	{"16", `[^\w.'"](0x[0-9a-f]+|0o[0-7]+|0b[01]+|\d+_\d+)\b`},
	{"17", `\bjson_(table|query|value|exists|scalar|serialize)\s*\(`},
	{"17", `\bat\s+local\b`},
	{"17", `\bgrant\s+[^;]*\bmaintain\b`},
	{"17", `\bset\s+expression\b`},
	{"17", `\bon_error\b`},
	{"17", `\bmerge\b[^;]*\breturning\b`},
	{"17", `\brandom\s*\(\s*[^)\s]`},
	{"18", `\breturning\s+(with\s*\(|(old|new)\.)`},
	{"18", `\bwithout\s+overlaps\b`},
	{"18", `\bnot\s+enforced\b`},
	{"18", `\)\s+virtual\b`},
	{"18", `\badd\s+(constraint\s+\w+\s+)?not\s+null\b`},
}

// TestNothingIsNewerThanPostgres12 searches all our SQL for what 12 does not have. It replaces a server of 12,
// for which Debian no longer has packages.
func TestNothingIsNewerThanPostgres12(t *testing.T) {
	newer := newerThan12(t)
	t.Logf("looks for %d names and %d forms", len(newer.names), len(newer.syntax))
	for name, text := range statements(t) {
		for _, found := range newer.in(text) {
			t.Errorf("%s: %s", name, found)
		}
	}
}

// The search must find something here, or it would find nothing anywhere.
func TestNewerThanPostgres12IsFound(t *testing.T) {
	newer := newerThan12(t)
	for _, statement := range []string{
		"select * from t order by n fetch first 3 rows with ties",
		"create function f() returns integer begin atomic select 1; end",
		"create or replace trigger t after insert on t execute function f()",
		"select value['key'] from t",
		"merge into t using u on true when matched then delete",
		"create unique index on t (n) nulls not distinct",
		"create view v with (security_invoker) as select 1",
		"select '{}' is json",
		"select 1_000",
		"select random(1, 6)",
		"update t set n = 1 returning old.n",
		"select gen_random_uuid()",
		"select date_bin('1 hour', now(), now())",
		"select * from pg_stat_io",
		"grant pg_read_all_data to ann",
		"set idle_session_timeout = 5",
		"select pg_stat_activity.query_id from pg_stat_activity",
		"select '{[1,2]}'::int4multirange",
	} {
		if newer.in(statement) == nil {
			t.Errorf("nothing newer than 12 is found in %q", statement)
		}
	}
}

// newerThings are what 12 does not have.
type newerThings struct {
	syntax map[*regexp.Regexp]string
	// names are names with their versions; those of functions end in "(".
	names map[string]string
}

// word matches a name, whether it is qualified, and whether it is called.
var word = regexp.MustCompile(`(\.?)\b([a-z_]\w*)(\s*\()?`)

func (n newerThings) in(text string) (found []string) {
	text = strings.ToLower(text)
	for pattern, version := range n.syntax {
		if form := pattern.FindString(text); form != "" {
			found = append(found, fmt.Sprintf("%q came with Postgres %s", form, version))
		}
	}
	for _, parts := range word.FindAllStringSubmatch(text, -1) {
		version, isNewer := n.names[parts[2]]
		// A function of ours, or of pg_cron, is called with its schema.
		if !isNewer && parts[1] == "" && parts[3] != "" {
			version, isNewer = n.names[parts[2]+"("]
		}
		if isNewer {
			found = append(found, fmt.Sprintf("%s came with Postgres %s", parts[2], version))
		}
	}
	return found
}

func newerThan12(t *testing.T) newerThings {
	t.Helper()
	newer := newerThings{make(map[*regexp.Regexp]string), make(map[string]string)}
	for _, s := range newerSyntax {
		newer.syntax[regexp.MustCompile(s.pattern)] = s.version
	}
	text, err := os.ReadFile("testdata/newer_than_12.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Fields(line)
		if len(fields) != 3 {
			t.Fatalf("%q is not a version, a kind and a name", line)
		}
		name := fields[2]
		if fields[1] == "function" {
			name += "("
		}
		newer.names[name] = fields[0]
	}
	return newer
}

var (
	sqlComment = regexp.MustCompile(`--[^\n]*`)
	goComment  = regexp.MustCompile(`(?m)^\s*//.*`)
	// goText is a string in Go, which may be an SQL statement.
	goText = regexp.MustCompile("`[^`]*`|\"(?:[^\"\\\\\n]|\\\\.)*\"")
)

// statements are the migrations, and the strings of the orchestrator, by file.
func statements(t *testing.T) map[string]string {
	t.Helper()
	texts := make(map[string]string)
	names, err := fs.Glob(migrations.Files, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		text, err := fs.ReadFile(migrations.Files, name)
		if err != nil {
			t.Fatal(err)
		}
		texts[name] = sqlComment.ReplaceAllString(string(text), "")
	}
	err = filepath.WalkDir("../orchestrator", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		code := goComment.ReplaceAllString(string(text), "")
		texts[path] = strings.Join(goText.FindAllString(code, -1), "\n")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(texts) < 100 {
		t.Fatalf("only %d files are searched", len(texts))
	}
	return texts
}
