package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// JSON is for programs and people, who look for the names and queries that they know.
func TestJSONKeepsCharacters(t *testing.T) {
	_, databaseURL := dbtest.Schema(t)
	const table, view = "t <b> & c", "v <b> & c"
	keeps := func(args ...string) {
		t.Helper()
		if stdout := mustCommand(t, databaseURL, append(args, "--json")...); !strings.Contains(stdout, " <b> & c") {
			t.Errorf("%q: %s", args, stdout)
		}
	}
	keeps("upload", "--dry-run", dbtest.Sample(t), "--table", table)
	keeps("upload", dbtest.Sample(t), "--table", table)
	keeps("table", "show", table)
	keeps("table", "list")
	mustCommand(t, databaseURL, "matview", "create", view, `select * from "`+table+`"`)
	keeps("matview", "show", `"`+view+`"`)
	keeps("matview", "list")
	keeps("status")
}

func TestTableCommands(t *testing.T) {
	pool, databaseURL := dbtest.Schema(t)
	mustCommand(t, databaseURL, "upload", dbtest.Sample(t), "--table", "Odd table")
	mustCommand(t, databaseURL, "matview", "create", "v", `select count(*) as n from "Odd table"`)
	if list := mustCommand(t, databaseURL, "table", "list"); !strings.Contains(list, `"Odd table"  ~10`) || !strings.Contains(list, "sample.csv") {
		t.Errorf("the list is %s", list)
	}
	show := mustCommand(t, databaseURL, "table", "show", "Odd table")
	for _, want := range []string{`"Odd table"`, "AColumnOfNumbers", "integer", "watched view v", "about 10", "sample.csv by mode create, 10 rows"} {
		if !strings.Contains(show, want) {
			t.Errorf("it lacks %q: %s", want, show)
		}
	}
	if got := mustCommand(t, databaseURL, "table", "show", "Odd table", "--json"); !strings.Contains(got, `"row_estimate": 10`) {
		t.Errorf("as JSON: %s", got)
	}
	if _, stderr, err := command(t, databaseURL, "", "table", "show", "nope"); exitCode(err) != exitFailure || !strings.Contains(stderr, "there is no table nope of yours") {
		t.Errorf("one that is missing: %v, %s", err, stderr)
	}
	if _, stderr, err := command(t, databaseURL, "", "table", "drop", `"Odd table"`); exitCode(err) != exitFailure || !strings.Contains(stderr, "Hint: --cascade") {
		t.Errorf("one that is read: %v, %s", err, stderr)
	}
	mustCommand(t, databaseURL, "table", "drop", `"Odd table"`, "--cascade")
	if left := dbtest.Value[bool](t, pool, `select to_regclass('"Odd table"') is not null or to_regclass('v') is not null`); left {
		t.Error("something is left")
	}
	if dropped := mustCommand(t, databaseURL, "matview", "dropped"); !strings.Contains(dropped, "count(*)") {
		t.Errorf("the view cannot be restored: %s", dropped)
	}
}

// Each list says what is missing, and the command that makes one.
func TestEmptyLists(t *testing.T) {
	t.Parallel()
	databaseURL := dbtest.NewServer(t).URL
	mustCommand(t, databaseURL, "migrate", "up")
	for line, want := range map[string]string{
		"table list":        "upload",
		"matview list":      "matview create",
		"status":            "matview create",
		"subscription list": "webhook create",
		"source list":       "source create",
		"matview dropped":   "no dropped view",
		"events tail":       "",
	} {
		stdout, stderr, _ := command(t, databaseURL, "", strings.Fields(line)...)
		if strings.Count(stdout, "\n") > 1 || !strings.Contains(stdout, want) || stdout+stderr == "" {
			t.Errorf("%s says %q and %q", line, stdout, stderr)
		}
		if strings.HasSuffix(line, " list") {
			if stdout := mustCommand(t, databaseURL, append(strings.Fields(line), "--json")...); stdout != "[]\n" {
				t.Errorf("%s --json says %q", line, stdout)
			}
		}
	}
}

// What needs attention is the first in each list.
func TestFailuresFirst(t *testing.T) {
	pool, databaseURL := dbtest.Schema(t)
	dbtest.Exec(t, pool, "create table divisors as select 1 as n")
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('a', 'select 1 as n')")
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('z', 'select 1 / n as n from divisors')")
	dbtest.Exec(t, pool, "update divisors set n = 0")
	dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('z')")
	list := mustCommand(t, databaseURL, "matview", "list")
	lines := strings.Split(list, "\n")
	if !strings.HasPrefix(lines[1], "z ") || !strings.Contains(lines[1], "failing") || !strings.Contains(list, "\na ") {
		t.Errorf("the list is %s", list)
	}

	firstOf := func(list, field string) any {
		t.Helper()
		var rows []map[string]any
		if err := json.Unmarshal([]byte(mustCommand(t, databaseURL, list, "list", "--json")), &rows); err != nil || len(rows) < 2 {
			t.Fatalf("%s list --json has %d rows, %v", list, len(rows), err)
		}
		return rows[0][field]
	}
	if first := firstOf("matview", "relation"); first != "z" {
		t.Errorf("the first as JSON is %v", first)
	}

	dbtest.Exec(t, pool, "select tinydevcrm.create_subscription('a')")
	dbtest.Exec(t, pool, "select tinydevcrm.create_subscription('z', 'z')")
	dbtest.Exec(t, pool, "select tinydevcrm.drop_matview('z')")
	list = mustCommand(t, databaseURL, "subscription", "list")
	if lines = strings.Split(list, "\n"); !strings.HasPrefix(lines[1], "z ") || !strings.Contains(lines[1], "view dropped") || !strings.Contains(list, "\na ") {
		t.Errorf("the list is %s", list)
	}
	if first := firstOf("subscription", "subscription"); first != "z" {
		t.Errorf("the first as JSON is %v", first)
	}
}
