package main

import (
	"bytes"
	"database/sql"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// variables are those to which the files of these tests refer.
var variables = map[string]string{
	"SOURCE_INVOICES_URL":             "https://example.com/secret.csv",
	"SOURCE_INVOICES_AUTHORIZATION":   "Bearer secret",
	"SUBSCRIPTION_HOOK_URL":           "https://example.com/in",
	"SUBSCRIPTION_HOOK_SECRET":        "whsec_" + strings.Repeat("c2VjcmV0", 5),
	"SUBSCRIPTION_HOOK_AUTHORIZATION": "Bearer secret",
	"SUBSCRIPTION_SLACK_URL":          "https://hooks.slack.com/services/T000/B000/secret",
}

// crm is a database with a folder of its definitions.
type crm struct {
	t      *testing.T
	url    string
	pool   *sql.DB
	folder string
	// environ has variables that differ from the usual ones.
	environ map[string]string
}

// newCRM makes a database with tables and nothing else.
func newCRM(t *testing.T) *crm {
	t.Helper()
	c := &crm{t: t, url: dbtest.NewMigrated(t).URL, folder: filepath.Join(t.TempDir(), "crm")}
	pool, err := db.Open(t.Context(), c.url, db.MaxConns)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pool.Close() })
	c.pool = pool
	c.exec("create table orders (id integer, total numeric, mail text)")
	c.exec("insert into orders select n, n, 'a@example.com' from generate_series(1, 30) as n")
	c.exec(`create table "My Data" as select 1 as n`)
	c.exec("create schema sales")
	return c
}

func (c *crm) exec(statement string, args ...any) {
	c.t.Helper()
	dbtest.Exec(c.t, c.pool, statement, args...)
}

// define makes one of each thing, with names and texts that need care.
func (c *crm) define() {
	c.t.Helper()
	for _, statement := range []string{
		`select tinydevcrm.create_matview('big', E'\n-- the big ones\nselect *\n  from orders\n where total > 10;\n', 'rows_added', key => '{id}',
		                                  ignored_columns => '{mail}', notify_interval => '10 minutes', notify_deadline => '26 hours')`,
		`select tinydevcrm.create_matview('bigger', 'select count(*) as many from big', 'changed')`,
		`select tinydevcrm.create_matview('big', 'select * from "My Data"', 'always', schema_name => 'sales')`,
		`select tinydevcrm.create_matview(name, 'select ''--'' as "a""b"' || E'\r\n/* x */', 'always')
		   from unnest(array['a/b', 'CON', '.', 'Big', 'x "y" z', 'grün', '日本', 'select', repeat('é', 31)]) as name`,
		`select tinydevcrm.schedule_matview('big', 'on change')`,
		`select tinydevcrm.schedule_matview('bigger', 'weekdays at 9:00 Europe/Berlin', catch_up => false)`,
		`select tinydevcrm.pause_matview('bigger')`,
		`select tinydevcrm.mute_matview('big', now() + interval '3 days 0.123456 seconds')`,
		`select tinydevcrm.allow_embedding('bigger', '{https://example.com,http://localhost:8000}')`,
		`update tinydevcrm.matviews set refresh_interval = '5 seconds' where relation = 'big'::regclass`,
		`comment on materialized view big is E'What is "big": -- dear\n\n  and # more'`,
		`select tinydevcrm.create_webhook('hook', 'https://example.com/in', 'big', 5, true, headers => '{"Authorization": "Bearer secret"}', each_row => true)`,
		`update tinydevcrm.webhooks set secret = '` + variables["SUBSCRIPTION_HOOK_SECRET"] + `'`,
		`select tinydevcrm.create_webhook('slack', '` + variables["SUBSCRIPTION_SLACK_URL"] + `', digest => 'daily at 8:00', notify_when => 'late,failed')`,
		`select tinydevcrm.alter_subscription('slack', '{{view}}: {{row_count}}', E'first\n\n{{#row}}\n  {{a}}\n{{/row}}')`,
		`select tinydevcrm.create_email('mail', '{a@example.com,b@example.com}', 'big', to_column => 'mail', allowed_domains => '{example.com}')`,
		`select tinydevcrm.create_subscription('a worker', 'sales.big')`,
		`select tinydevcrm.pause_subscription('a worker')`,
		`select tinydevcrm.create_source('invoices', '` + variables["SOURCE_INVOICES_URL"] + `', mode => 'upsert', key => '{id}', schedule => 'daily at 6:00',
		                                 headers => '{"Authorization": "Bearer secret"}', refuse_if_fewer => 0.5, notify_deadline => '2 days',
		                                 options => '{"delimiter": ";", "null": ["NA", "-"], "type": {"zip": "text"}}')`,
		`select tinydevcrm.untrack_table('"My Data"')`,
	} {
		c.exec(statement)
	}
}

// run runs a command and returns what it says and its exit code.
func (c *crm) run(args ...string) (stdout, stderr string, code int) {
	c.t.Helper()
	var out, diagnostics bytes.Buffer
	err := run(c.t.Context(), args, func(name string) string {
		if value, isSet := c.environ[name]; isSet {
			return value
		}
		if value, isSet := variables[name]; isSet {
			return value
		}
		return environment(c.url)(name)
	}, strings.NewReader(""), &out, &diagnostics)
	return out.String(), diagnostics.String(), exitCode(err)
}

// expect is run with an exit code and a part of what it says.
func (c *crm) expect(code int, part string, args ...string) (said string) {
	c.t.Helper()
	stdout, stderr, got := c.run(args...)
	said = stdout + stderr
	if got != code || !strings.Contains(said, part) {
		c.t.Errorf("orchestrator %s: exit code %d, want %d, and %q in\n%s", strings.Join(args, " "), got, code, part, said)
	}
	if strings.Contains(said, "/secret") || strings.Contains(said, "Bearer") || strings.Contains(said, "whsec_") {
		c.t.Errorf("a secret is in what orchestrator %s says: %s", strings.Join(args, " "), said)
	}
	return said
}

// write writes a file of the folder; without a text it removes it.
func (c *crm) write(name, text string) {
	c.t.Helper()
	file := filepath.Join(c.folder, filepath.FromSlash(name))
	err := os.Remove(file)
	if text != "" {
		if err = os.MkdirAll(filepath.Dir(file), 0o700); err == nil {
			err = os.WriteFile(file, []byte(text), 0o600)
		}
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// filesOf are those of a folder.
func filesOf(t *testing.T, folder string) map[string]string {
	t.Helper()
	found := make(map[string]string)
	err := filepath.WalkDir(folder, func(file string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(file)
		found[strings.TrimPrefix(filepath.ToSlash(file), filepath.ToSlash(folder)+"/")] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// What is exported and applied to an empty database is exported from there byte for byte.
func TestExportApplyExport(t *testing.T) {
	t.Parallel()
	from := newCRM(t)
	from.define()
	from.expect(0, "19 definitions are in", "export", from.folder)
	from.expect(0, "nothing would change", "plan", from.folder)
	first := filesOf(t, from.folder)
	for file, text := range first {
		if strings.Contains(text, "secret.csv") || strings.Contains(text, "/secret") || strings.Contains(text, "Bearer") || strings.Contains(text, "whsec_") {
			t.Errorf("a secret is in %s:\n%s", file, text)
		}
	}

	to := newCRM(t)
	to.exec(`create table invoices (id integer)`)
	to.folder = from.folder
	to.expect(2, "create view big", "plan", to.folder)
	to.expect(0, "19 definitions have no error", "check", to.folder)
	if count := dbtest.Value[int](t, to.pool, "select count(*) from tinydevcrm.matviews"); count != 0 {
		t.Errorf("a check leaves %d views", count)
	}
	to.expect(0, "view big is created", "apply", to.folder)
	to.expect(0, "nothing would change", "plan", to.folder)
	to.expect(0, "nothing has changed", "apply", to.folder)
	to.folder = filepath.Join(t.TempDir(), "second")
	to.expect(0, "19 definitions", "export", to.folder)
	if second := filesOf(t, to.folder); !maps.Equal(first, second) {
		for file := range first {
			if first[file] != second[file] {
				t.Errorf("%s was\n%s\nand is\n%s", file, first[file], second[file])
			}
		}
		t.Errorf("%d files, and then %d", len(first), len(second))
	}
	for _, command := range [][]string{{"matview", "list"}, {"matview", "show", "big"}} {
		to.expect(0, "by files", command...)
	}
}

// A plan is a diff of the files, and its exit code tells nothing, something and an error apart.
func TestPlan(t *testing.T) {
	t.Parallel()
	c := newCRM(t)
	c.define()
	c.expect(0, "", "export", c.folder)
	exported := filesOf(t, c.folder)

	c.write("views/big.sql", strings.Replace(exported["views/big.sql"], "total > 10", "total > 20", 1))
	c.write("views/new.sql", "select 1 as n\n")
	c.write("tinydevcrm.yaml", strings.Replace(exported["tinydevcrm.yaml"], "daily at 8:00", "daily at 9:00", 1))
	said := c.expect(2, "1 to create, 2 to alter, 0 to replace, 0 to drop", "plan", c.folder)
	for _, want := range []string{
		"alter view big\n--- views/big.sql (database)\n+++ views/big.sql\n", "\n- where total > 10;\n+ where total > 20;\n",
		"create view new\n--- /dev/null\n+++ views/new.sql\n", "+select 1 as n\n",
		"-    digest: daily at 8:00\n+    digest: daily at 9:00\n",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("the plan lacks %q:\n%s", want, said)
		}
	}
	c.environ = map[string]string{"SUBSCRIPTION_SLACK_URL": "https://hooks.slack.com/services/T000/B000/other"}
	c.expect(2, "\n-    url: ${SUBSCRIPTION_SLACK_URL} with another value\n", "plan", c.folder)
	c.environ = map[string]string{"SUBSCRIPTION_SLACK_URL": "", "SOURCE_INVOICES_AUTHORIZATION": ""}
	for _, command := range []string{"plan", "apply", "check"} {
		said = c.expect(1, "subscription slack, url: SUBSCRIPTION_SLACK_URL is not set", command, c.folder)
		if !strings.Contains(said, "source invoices, headers Authorization: SOURCE_INVOICES_AUTHORIZATION is not set") {
			t.Errorf("%s names one of two: %s", command, said)
		}
	}
	c.environ = nil

	c.write("views/new.sql", "-- notify_when: sometimes\n\nselect 1 as n\n")
	c.expect(1, "views/new.sql:1: view new: there is no rule 'sometimes'", "apply", c.folder)
	c.write("views/new.sql", "-- notify_interval: ten\n\nselect 1 as n\n")
	c.expect(1, "view new: invalid input syntax", "plan", c.folder)
	c.expect(1, "nor a file in views", "plan", filepath.Join(c.folder, "views"))
	c.expect(64, "missing DIR", "plan")
	c.expect(64, "unknown flag", "plan", c.folder, "--prun")
	c.expect(2, "missing DIR", "apply")
	c.expect(2, "unknown flag", "check", "--x")
}

// A check finds each error with the place in its file, and changes nothing.
func TestCheckOfFiles(t *testing.T) {
	t.Parallel()
	c := newCRM(t)
	c.write("views/a.sql", "-- schedule: hourly\n\n-- the sums\nselect id,\n       totl\n  from orders\n")
	c.write("views/b.sql", "select n from a2\n")
	c.write("views/c.sql", "-- schedule: hurly\n\nselect 1 as n\n")
	c.write("views/d.sql", "-- key: [m]\n\nselect 1 as n; select 2\n")
	c.write("views/e.sql", "select 1 / (n - n) as x from f\n")
	c.write("views/f.sql", "select 1 as n\n")
	said := c.expect(1, "", "check", c.folder)
	for _, want := range []string{
		"error: views/a.sql:5: view a: column \"totl\" does not exist\n         totl\n         ^\n",
		"error: views/b.sql:1: view b: relation \"a2\" does not exist\n",
		"error: views/c.sql:1: view c: 'hurly' is not a schedule\n",
		"error: views/d.sql:1: view d:",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("the check lacks %q:\n%s", want, said)
		}
	}
	if strings.Contains(said, "view e") || strings.Contains(said, "view f") {
		t.Errorf("it finds fault with good views:\n%s", said)
	}
	if relations := dbtest.Column[string](t, c.pool, "select relname from pg_class where relkind = 'm' union all select jobname from cron.job where jobname !~ 'upkeep|tinydevcrm'"); len(relations) > 0 {
		t.Errorf("it leaves %q", relations)
	}
	c.write("views/e.sql", "")
	said = c.expect(1, "views/a.sql:5: view a: column \"totl\"", "apply", c.folder)
	if count := dbtest.Value[int](t, c.pool, "select count(*) from tinydevcrm.matviews"); count != 0 {
		t.Errorf("a failed apply leaves %d views: %s", count, said)
	}
}

func TestPrune(t *testing.T) {
	t.Parallel()
	c := newCRM(t)
	c.define()
	c.write("views/bigger.sql", "select count(*) as many from orders\n")
	c.expect(2, "16 more are not in the files and stay; --prune drops them", "plan", c.folder)
	said := c.expect(2, "0 to create, 1 to alter, 0 to replace, 16 to drop", "plan", c.folder, "--prune")
	if !strings.Contains(said, "drop subscription slack: what waits to be delivered is lost") {
		t.Errorf("the plan is %s", said)
	}
	c.expect(0, "source invoices is dropped", "apply", c.folder, "--prune")
	c.expect(0, "nothing would change", "plan", c.folder, "--prune")
	if rest := dbtest.Column[string](t, c.pool, `
		select relation::text from tinydevcrm.matviews union all select name from tinydevcrm.subscriptions union all select name from tinydevcrm.sources`); strings.Join(rest, " ") != "bigger" {
		t.Errorf("it has %q", rest)
	}
	if rows := dbtest.Value[int](t, c.pool, "select count(*) from orders"); rows != 30 {
		t.Errorf("the table has %d rows", rows)
	}
}

// A program that is killed while it applies files has changed nothing.
func TestKillDuringApply(t *testing.T) {
	t.Parallel()
	c := newCRM(t)
	c.define()
	dbtest.CreateGates(t, c.pool)
	c.expect(0, "", "export", c.folder)
	before := filesOf(t, c.folder)
	state := `select coalesce(string_agg(format('%s %s %s %s', relation::oid, schedule, notify_when, is_managed), ', ' order by id), '') from tinydevcrm.matviews`
	was := dbtest.Value[string](t, c.pool, state)

	open := dbtest.CloseGate(t, c.pool, 27)
	c.write("views/a_new.sql", "-- schedule: hourly\n\nselect 1 as n\n")
	c.write("views/bigger.sql", "-- schedule: hourly\n\nselect count(*) + 1 as many from big\n")
	c.write("views/z_gated.sql", "select pass_gate(27), many from bigger\n")
	binary := filepath.Join(t.TempDir(), "orchestrator")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	process := exec.Command(binary, "apply", c.folder)
	process.Env = append(os.Environ(), "DATABASE_URL="+c.url)
	for name, value := range variables {
		process.Env = append(process.Env, fmt.Sprintf("%s=%s", name, value))
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	awaitAtGate(t, c.pool, "apply_definitions")
	if err := process.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = process.Wait()
	// The server notices when it answers.
	dbtest.Exec(t, c.pool, "select pg_terminate_backend(pid) from pg_stat_activity where query like 'select action, %apply_definitions%'")
	open()
	dbtest.Eventually(t, dbtest.Deadline, "the session has ended", func() bool {
		return dbtest.Value[int](t, c.pool, "select count(*) from pg_stat_activity where query like 'select action, %apply_definitions%'") == 0
	})
	if is := dbtest.Value[string](t, c.pool, state); is != was {
		t.Errorf("the views were %s\nand are %s", was, is)
	}
	c.folder = filepath.Join(t.TempDir(), "after")
	c.expect(0, "", "export", c.folder)
	if after := filesOf(t, c.folder); !maps.Equal(before, after) {
		t.Error("the definitions have changed")
	}
}

// A file of another role's view is refused, and none of theirs is exported.
func TestDefinitionsOfOthers(t *testing.T) {
	t.Parallel()
	c := newCRM(t)
	c.exec("select tinydevcrm.create_user(name, 'secret word') from unnest(array['ann', 'eve']) as name")
	ann := open(t, c.url, "ann")
	dbtest.Exec(t, ann, "select tinydevcrm.create_matview('v', 'select 1 as n')")
	dbtest.Exec(t, ann, "select tinydevcrm.create_subscription('hers')")
	c.exec("grant usage, create on schema ann to eve")
	super := c.url
	c.url = dbtest.AsRole(super, "eve")
	c.write("views/ann/v.sql", "select 2 as n\n")
	for _, command := range []string{"apply", "check"} {
		c.expect(1, "view ann.v: ann.v is there already", command, c.folder)
	}
	c.write("views/ann/v.sql", "")
	c.write("tinydevcrm.yaml", "subscriptions:\n  spy:\n    view: ann.v\ntables: {}\n")
	c.expect(1, "is not watched", "apply", c.folder)
	c.write("tinydevcrm.yaml", "tables: {}\n")
	c.expect(0, "nothing has changed", "apply", c.folder, "--prune")
	c.expect(0, "0 definitions", "export", filepath.Join(c.folder, "hers"))
	// Nor does a superuser apply a file to the view of a user.
	c.url = super
	c.write("views/ann/v.sql", "select 2 as n\n")
	c.expect(1, "view ann.v: ann.v is there already", "apply", c.folder)
	if n := dbtest.Value[int](t, ann, "select n from v"); n != 1 {
		t.Errorf("the view has %d", n)
	}
}

// The files of the document are ones.
func TestViewsAsCodeDocument(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("VIEWS_AS_CODE.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(text), "\n```\n")
	c := newCRM(t)
	c.exec("drop table orders")
	c.exec("create table orders (number integer, customer text, due date, delivered date)")
	c.environ = map[string]string{
		"SOURCE_ORDERS_URL": "https://example.com/orders.csv", "SALES_SLACK_URL": variables["SUBSCRIPTION_SLACK_URL"],
		"SUBSCRIPTION_PROGRAM_SECRET": variables["SUBSCRIPTION_HOOK_SECRET"],
	}
	c.write("views/late_orders.sql", blocks[3]+"\n")
	c.write("tinydevcrm.yaml", blocks[5]+"\n")
	for line := range strings.Lines(blocks[1]) {
		words := strings.Fields(line)
		switch words[1] {
		case "plan":
			c.expect(2, "create view late_orders", words[1], c.folder)
		case "check":
			c.expect(0, "5 definitions have no error", words[1], c.folder)
		case "apply":
			c.expect(0, "subscription sales is created", words[1], c.folder)
			c.expect(0, "nothing would change", "plan", c.folder)
			before := filesOf(t, c.folder)
			c.expect(0, "", "export", c.folder)
			before["tinydevcrm.yaml"] = strings.SplitAfterN(filesOf(t, c.folder)["tinydevcrm.yaml"], "\n", 2)[0] + before["tinydevcrm.yaml"]
			if after := filesOf(t, c.folder); !maps.Equal(before, after) {
				t.Errorf("an export writes %s", after)
			}
		case "export":
			c.expect(0, "definitions are in", words[1], filepath.Join(t.TempDir(), words[2]))
		default:
			t.Errorf("nobody runs %s", line)
		}
	}
}
