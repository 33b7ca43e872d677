package main

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// completed are the words that a shell offers for a command line whose last word is not whole. bash, zsh and fish ask
// in the same way.
func completed(t *testing.T, databaseURL string, line ...string) []string {
	t.Helper()
	stdout, stderr, err := command(t, databaseURL, "", append([]string{"__complete"}, line...)...)
	if err != nil || strings.Contains(strings.ToLower(stderr), "error") {
		t.Fatalf("complete %q: %v: %s", line, err, stderr)
	}
	var words []string
	for text := range strings.Lines(stdout) {
		if strings.HasPrefix(text, ":") {
			break
		}
		word, _, _ := strings.Cut(strings.TrimRight(text, "\n"), "\t")
		words = append(words, word)
	}
	return words
}

// namesFixture has one of each thing that has a name.
func namesFixture(t *testing.T) (databaseURL string) {
	pool, databaseURL := dbtest.Schema(t)
	dbtest.Exec(t, pool, "create table orders as select 1 as id, 1500 as total")
	dbtest.Exec(t, pool, "create materialized view unwatched as select 1 as n")
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('late_orders', 'select * from orders', notify_when => 'always')")
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('gone', 'select 1 as n')")
	dbtest.Exec(t, pool, "select tinydevcrm.drop_matview('gone')")
	dbtest.Exec(t, pool, "select tinydevcrm.create_subscription('worker')")
	dbtest.Exec(t, pool, "select tinydevcrm.create_webhook('alerts', 'https://example.com/in')")
	dbtest.Exec(t, pool, "select tinydevcrm.create_email('letters', '{a@example.com}')")
	dbtest.Exec(t, pool, "select tinydevcrm.create_source('exports', 'https://example.com/a.csv')")
	t.Cleanup(func() {
		// t.Context has ended by now.
		if _, err := pool.ExecContext(context.Background(), "select tinydevcrm.drop_source('exports')"); err != nil {
			t.Error(err)
		}
	})
	return databaseURL
}

func TestCompletion(t *testing.T) {
	databaseURL := namesFixture(t)
	pool := openPool(t, databaseURL)
	for _, test := range []struct {
		line string
		// want are among the offered words, never is not.
		want, never string
	}{
		{"matview show _", "late_orders", "orders unwatched gone"},
		{"matview show late_orders _", "", "late_orders"},
		{"matview watch _", "late_orders unwatched", "orders"},
		{"table drop o", "orders", "late_orders"},
		{"subscription drop _", "worker alerts letters", "late_orders"},
		{"subscription receive w", "worker", "alerts"},
		{"webhook rotate _", "alerts", "worker letters"},
		{"email alter _", "letters", "alerts"},
		{"source run _", "exports", ""},
		{"webhook create a http://x --matview _", "late_orders", "orders"},
		{"events tail --matview l", "late_orders", ""},
		{"matview create a b --notify-when row", "rows_added rows_removed", "always failed"},
		{"matview replay late_orders --rule al", "always", ""},
		{"subscription audience worker --notify-when failed,la", "failed,late", "late"},
		{"webhook create a http://x --format sl", "slack", ""},
		{"upload a.csv --mode _", "create replace append upsert", ""},
		{"upload a.csv --format _", "csv jsonl parquet", "slack"},
		{"upload a.csv --ragged _", "strict pad reject", ""},
		{"upload a.csv --type total=big", "total=bigint", "bigint"},
		{"source create a http://x --widen _", "yes no", ""},
		{"matview schedule late_orders on", "", ""},
		{"matview schedule late_orders hourly --time-zone Europe/Ber", "Europe/Berlin", ""},
		{"matview _", "schedule show drop", "up"},
		{"status --js", "--json", ""},
		{"completion _", "bash zsh fish", ""},
		// What is given before does not matter, even twice, which the command itself refuses.
		{"webhook create a http://x --max-attempts 3 --matview l", "late_orders", ""},
	} {
		line := strings.Fields(test.line)
		if last := len(line) - 1; line[last] == "_" {
			line[last] = ""
		}
		words := completed(t, databaseURL, line...)
		for _, want := range strings.Fields(test.want) {
			if !slices.Contains(words, want) {
				t.Errorf("%q offers %q, not %s", test.line, words, want)
			}
		}
		for _, never := range strings.Fields(test.never) {
			if slices.Contains(words, never) {
				t.Errorf("%q offers %s", test.line, never)
			}
		}
	}
	if words := completed(t, databaseURL, "matview", "schedule", "late_orders", "on"); !slices.Equal(words, []string{"on change"}) {
		t.Errorf("schedules that begin with on: %q", words)
	}
	for _, line := range [][]string{
		{"source", "create", "a", "http://x", "--schedule"},
		{"source", "alter", "exports", "--schedule"},
		{"webhook", "create", "a", "http://x", "--digest"},
		{"email", "create", "a", "a@example.com", "--digest"},
		{"subscription", "digest", "alerts"},
	} {
		words := completed(t, databaseURL, append(line, "")...)
		if !slices.Contains(words, "daily at 7:00") {
			t.Errorf("%q offers %q, not the days", line, words)
		}
		for _, word := range words {
			if _, err := pool.Exec("select tinydevcrm._compute_next_fetch($1, now()), tinydevcrm._compute_next_digest($1, now())", word); err != nil {
				t.Errorf("%q offers %s: %v", line, word, err)
			}
		}
	}
	if words := completed(t, databaseURL, "matview", "restore", ""); !slices.ContainsFunc(words, func(word string) bool { return word == "gone" }) {
		t.Errorf("dropped views: %q", words)
	}
}

// A shell is not disturbed by a database that is missing, or does not answer.
func TestCompletionWithoutADatabase(t *testing.T) {
	for _, databaseURL := range []string{"", "postgres://localhost:1/x?sslmode=disable", "nonsense"} {
		if words := completed(t, databaseURL, "matview", "show", ""); words != nil {
			t.Errorf("%q offers %q", databaseURL, words)
		}
		if words := completed(t, databaseURL, "upload", "a.csv", "--trim", ""); !slices.Equal(words, []string{"yes", "no"}) {
			t.Errorf("with %q the words of an option are %q", databaseURL, words)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if script, _, err := command0(t, "completion", shell); err != nil || !strings.Contains(script, "__complete") {
			t.Errorf("the script of %s is %d bytes, %v", shell, len(script), err)
		}
	}
}

func TestSuggestedNames(t *testing.T) {
	databaseURL := namesFixture(t)
	for _, test := range []struct{ line, want string }{
		{"matview show late_ordrs", "Did you mean late_orders?"},
		{"matview show late", "Did you mean late_orders?"},
		{"matview restore gon", "Did you mean gone?"},
		{"matview refresh nonsense", ""},
		{"table show ordrs", "Did you mean orders?"},
		{"table drop Order", "Did you mean orders?"},
		{"subscription drop wrker", "Did you mean worker?"},
		{"webhook rotate alrts", "Did you mean alerts?"},
		{"email alter leters b@example.com", "Did you mean letters?"},
		{"source run export", "Did you mean exports?"},
		{"webhook create a https://example.com --matview late_order --format slack", "Did you mean late_orders?"},
		{"webhook create a https://example.com --matview late_orders --format slak", "Did you mean slack?"},
		{"matview watch late_orders --notify-when alwys", "Did you mean always?"},
		{"subscription create a --matview late_orders --notify-when failed,rows_aded", "Did you mean rows_added?"},
		{"upload " + dbtest.Sample(t) + " --mode replce", "Did you mean replace?"},
		{"upload " + dbtest.Sample(t) + " --ragged stric", "Did you mean strict?"},
		{"upload " + dbtest.Sample(t) + " --dry-run --type AColumnOfNumbers=bigintt", "Did you mean bigint?"},
		{"matview schedule late_orders hourly --time-zone Europe/Berln", "Did you mean Europe/Berlin"},
		{"events tail --matview late_ordrs", "Did you mean late_orders?"},
		{"matview schedule hourly late_orders", "orchestrator matview list lists those that there are."},
		{"table drop x", "orchestrator table list lists those that there are."},
	} {
		_, stderr, err := command(t, databaseURL, "", strings.Fields(test.line)...)
		if err == nil || !strings.Contains(stderr, test.want) || test.want == "" && strings.Contains(stderr, "Did you mean") {
			t.Errorf("%s: %v: %s, want %q", test.line, err, stderr, test.want)
		}
	}
}

func TestNearest(t *testing.T) {
	known := []string{"late_orders", "orders", "Orders", "v", "w"}
	for typed, want := range map[string]string{
		"late_ordres": "late_orders", "LATE_ORDERS": "late_orders", "odrers": "orders Orders", "x": "", "": "", "zzz": "", "late": "late_orders",
	} {
		if got := strings.Join(nearest(typed, known), " "); got != want {
			t.Errorf("nearest to %q is %q, want %q", typed, got, want)
		}
	}
}
