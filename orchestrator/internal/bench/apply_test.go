//go:build bench

package bench

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestApply is scripts/bench apply [VIEWS [RUNS]]: orchestrator apply of files of views, each with a schedule, a rule
// and a description, compared with the bare statements that create them by psql. The views group 100,000 rows; a tenth
// of them read another one.
func TestApply(t *testing.T) {
	views, runs := sizeOf(t, 500), runsOf(t)
	b := newBench(t)
	b.query("create table facts as select n as id, n % 500 as part, n * 1.5 as total from generate_series(1, 100000) as n")
	b.query("analyze facts")
	statements := b.writeViews(views)
	const drop = `
		do $$
		begin
		    execute (select 'drop materialized view ' || string_agg(oid::regclass::text, ', ') from pg_class where relname ~ '^v[0-9]+$');
		end $$`
	for run := range runs {
		b.query("vacuum")
		b.timed("bare", func() { b.run("psql", b.url, "-Xqf", statements) })
		b.query(drop)
		b.query("vacuum")
		b.timed("apply", func() { b.orchestrator("apply", b.path("files")) })
		b.query(drop)
		say("Run %d of %d", run+1, runs)
	}
	fmt.Println(b.report(fmt.Sprintf("orchestrator apply of %d views", views), "apply", "bare"))
}

// writeViews writes the files, and returns the file of the bare statements.
func (b *bench) writeViews(count int) string {
	b.t.Helper()
	if err := os.MkdirAll(b.path("files/views"), 0o700); err != nil {
		b.t.Fatal(err)
	}
	var statements strings.Builder
	for i := range count {
		query := fmt.Sprintf("select part, count(*) as many, sum(total) as total\n  from facts\n where part %% 7 <> %d\n group by part", i)
		if i%10 == 9 {
			query = fmt.Sprintf("select sum(many) as many\n  from v%d", i-1)
		}
		text := fmt.Sprintf("-- description: Number %d\n-- schedule: daily at %d:00\n-- notify_when: changed\n\n%s\n", i, i%24, query)
		if err := os.WriteFile(b.path(fmt.Sprintf("files/views/v%d.sql", i)), []byte(text), 0o600); err != nil {
			b.t.Fatal(err)
		}
		fmt.Fprintf(&statements, "create materialized view v%d as %s;\n", i, query)
	}
	file := b.path("views.sql")
	if err := os.WriteFile(file, []byte(statements.String()), 0o600); err != nil {
		b.t.Fatal(err)
	}
	return file
}
