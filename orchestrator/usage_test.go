package main

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// No database is given: an invalid command line is refused before one is needed.
func TestUsageErrors(t *testing.T) {
	tests := []struct {
		name string
		args string
		want string
	}{
		{"unknown command", "frobnicate", `unknown command "frobnicate" for "orchestrator"`},
		{"an option as a command", "version", "Did you mean --version?"},
		{"misspelt command", "statsu", "Did you mean status?"},
		{"misspelt matview command", "matview lst", "Did you mean list?"},
		{"misspelt subscription command", "subscription lst", "Did you mean list"},
		{"misspelt webhook command", "webhook crate", "Did you mean create?"},
		{"unknown webhook command", "webhook lst", `unknown command "lst"`},
		{"unknown migrate command", "migrate foo", `unknown command "foo"`},
		{"unknown help topic", "help foo", `unknown command "foo"`},
		{"unknown help topic below one", "help matview lst", "Did you mean list?"},
		{"unknown shell", "completion foo", `unknown command "foo"`},
		{"no command", "matview", "missing COMMAND"},
		{"no command of migrate", "migrate", "missing COMMAND"},
		{"no file", "upload", "missing FILE"},
		{"neither name nor query", "matview create", "missing NAME and QUERY"},
		{"no query", "matview create v", "missing QUERY"},
		{"no schedule", "matview schedule v", "missing SCHEDULE"},
		{"no name", "subscription drop", "missing SUBSCRIPTION"},
		{"a query in pieces", "matview create v select 1", `unexpected argument "1"`},
		{"an argument of a command without", "status v", `unexpected argument "v"`},
		{"two numbers", "migrate down 1 2", `unexpected argument "2"`},
		{"bad version", "migrate force x", `"x" is not a version`},
		{"no migrations", "migrate up 0", "STEPS is a positive number"},
		{"neither a number nor all", "migrate down", "how many"},
		{"a number and all", "migrate down 1 --all", "how many"},
		{"unknown flag", "status --jsn", "unknown flag: --jsn"},
		{"flag of another command", "status --listen-addr :1", "unknown flag: --listen-addr"},
		{"flag without its value", "upload a.csv --null", "flag needs an argument: --null"},
		{"bad value", "subscription replay s --since x", `invalid argument "x" for "--since"`},
		{"bad value of an option that says what it takes", "source alter s --notify-deadline 26hours", "Hint: --notify-deadline: notify when nothing new has come for so long, such as 26h."},
		{"no option of a change", "source alter s --table t", "unknown flag: --table"},
		{"bad number", "webhook create a b --max-attempts x", `invalid argument "x" for "--max-attempts"`},
		{"bad network", "up --allow-webhooks-to x", `"x" is not a network`},
		{"bad option of an upload", "upload a.csv --skip x", `--skip cannot be "x"`},
		{"bad word of an option", "upload a.csv --quoted-empty x", `--quoted-empty cannot be "x"`},
		{"bad option of a source", "source create a http://x --missing-columns x", `--missing-columns cannot be "x"`},
		{"the same switch twice", "status --json --json", "--json is given twice"},
		{"the same option twice", "matview watch v --notify-when never --notify-when always", "--notify-when is given twice"},
		{"the same option of an upload twice", "upload a.csv --encoding a --encoding b", "--encoding is given 2 times"},
		{"two databases", "--database-url postgres://u:secret@h/x --database-url y status", "--database-url is given twice"},
		{"empty value", "webhook create a http://x --matview=", "--matview is empty"},
		{"nothing to change", "webhook alter a", "nothing to change"},
		{"nothing to change of a source", "source alter a", "nothing to change"},
		{"headers and none", "webhook alter a --header x:y --no-headers", "--no-headers exclude"},
		{"empty address", "up --listen-addr=", "--listen-addr is empty"},
		{"header and no header", "upload a.csv --header yes --no-header", "--no-header exclude"},
		{"JSON and nothing", "status --json --quiet", "--quiet exclude"},
		{"log-in without users", "up --auth-url x", "--auth-url needs --auth"},
		{"log-in without users, no command", "--auth-url x", "--auth-url needs --auth"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			stdout, stderr, err := command(t, "", "", strings.Fields(test.args)...)
			if code := exitCode(err); code != exitUsage {
				t.Errorf("exit code %d, want %d", code, exitUsage)
			}
			if !strings.Contains(stderr, test.want) || stdout != "" {
				t.Errorf("it says %q and %q, want %q in the first", stderr, stdout, test.want)
			}
			if strings.Contains(stderr, "secret") {
				t.Error("the password is in the error")
			}
		})
	}
}

// One address is a network of one.
func TestNetworksOfWebhooks(t *testing.T) {
	var p program
	for _, value := range []string{"127.0.0.1", "::1", "10.0.0.0/8"} {
		if err := p.allowWebhooksTo(value); err != nil {
			t.Error(err)
		}
	}
	if got := fmt.Sprint(p.webhooksTo); got != "[127.0.0.1/32 ::1/128 10.0.0.0/8]" {
		t.Errorf("the networks are %s", got)
	}
}

// The help of a source says what is so for sources, where an upload differs.
func TestHelpOfSources(t *testing.T) {
	stdout, _, _ := command(t, "", "", "source", "create", "--help")
	for _, want := range []string{"yes (the default) or no", "(default: that of the source)", "such as 0.5\n"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("it lacks %q", want)
		}
	}
}

func TestExitCodes(t *testing.T) {
	_, databaseURL := dbtest.Schema(t)
	for _, test := range []struct {
		name string
		url  string
		args []string
		want int
	}{
		{"help", databaseURL, []string{"--help"}, 0},
		{"help on a command", databaseURL, []string{"help", "matview", "list"}, 0},
		{"help on a group", databaseURL, []string{"matview", "--help"}, 0},
		{"a shell's completion", databaseURL, []string{"completion", "bash"}, 0},
		{"a command that succeeds", databaseURL, []string{"matview", "list"}, 0},
		{"options that may be repeated", databaseURL, []string{"upload", dbtest.Sample(t), "--dry-run",
			"--mode", "upsert", "--key", "AColumnOfNumbers", "--key", "AColumnOfNumbers"}, 0},
		{"no database", "", []string{"matview", "list"}, exitFailure},
		{"no file", databaseURL, []string{"upload", "/nope.csv"}, exitFailure},
		{"no view", databaseURL, []string{"matview", "refresh", "nope"}, exitFailure},
		{"a value that SQL refuses", databaseURL, []string{"matview", "create", "v", "select 1", "--notify-when", "nope"}, exitUsage},
		{"a mode that SQL refuses", databaseURL, []string{"upload", dbtest.Sample(t), "--mode", "nope"}, exitUsage},
	} {
		t.Run(test.name, func(t *testing.T) {
			stdout, stderr, err := command(t, test.url, "", test.args...)
			if code := exitCode(err); code != test.want {
				t.Errorf("exit code %d, want %d: %s%s", code, test.want, stdout, stderr)
			}
		})
	}
}

// stopped runs the program, ends its context once it has begun, and returns how it ended.
func stopped(t *testing.T, databaseURL string, stdin io.Reader, hasBegun func() bool, args ...string) (string, error) {
	t.Helper()
	var stderr dbtest.Output
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, args, environment(databaseURL), stdin, io.Discard, &stderr)
	}()
	dbtest.Eventually(t, dbtest.Deadline, "it has begun", hasBegun)
	cancel()
	select {
	case err := <-ended:
		return stderr.String(), err
	case <-time.After(5 * time.Second):
		t.Fatalf("it does not end: %s", stderr.String())
	}
	return "", nil
}

func TestStoppedCommands(t *testing.T) {
	pool, databaseURL := dbtest.Schema(t)
	dbtest.Exec(t, pool, "create table pauses as select 0::float as seconds")
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select pg_sleep(seconds)::text from pauses')")
	dbtest.Exec(t, pool, "update pauses set seconds = 100")
	// A statement that has only just begun may miss the cancellation, so it must be waiting for something.
	waits := func(query string) func() bool {
		return func() bool {
			return dbtest.Value[bool](t, pool, `
				select exists (
				           select
				             from pg_stat_activity
				            where application_name = 'stopped' and query ilike $1 and wait_event is not null)`, query)
		}
	}

	t.Run("an upload that waits for more", func(t *testing.T) {
		stdin, writer := io.Pipe()
		defer writer.Close()
		go io.Copy(writer, strings.NewReader("n\n"+strings.Repeat("1234567\n", 1<<17)))
		words, err := stopped(t, databaseURL+"&application_name=stopped", stdin, waits("copy%"), "upload", "-", "--table", "partly")
		if exitCode(err) != exitStopped || words != "stopped; nothing was imported\n" {
			t.Errorf("exit code %d, %q", exitCode(err), words)
		}
		if left := dbtest.Value[bool](t, pool, "select to_regclass('partly') is not null"); left {
			t.Error("something was imported")
		}
	})
	t.Run("an upload that nothing came of yet", func(t *testing.T) {
		stdin, writer := io.Pipe()
		defer writer.Close()
		words, err := stopped(t, databaseURL+"&application_name=stopped", stdin, waits("%"), "upload", "-", "--table", "partly")
		if exitCode(err) != exitStopped || words != "stopped; nothing was imported\n" {
			t.Errorf("exit code %d, %q", exitCode(err), words)
		}
	})
	t.Run("a refresh", func(t *testing.T) {
		words, err := stopped(t, databaseURL+"&application_name=stopped", strings.NewReader(""), waits("%refresh_matview%"), "matview", "refresh", "v")
		if exitCode(err) != exitStopped || words != "stopped\n" {
			t.Errorf("exit code %d, %q", exitCode(err), words)
		}
	})
	t.Run("a daemon that waits for a migration of another's", func(t *testing.T) {
		conn, err := pool.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.ExecContext(t.Context(), "begin; lock public.schema_migrations in access exclusive mode"); err != nil {
			t.Fatal(err)
		}
		defer conn.ExecContext(context.WithoutCancel(t.Context()), "rollback")
		words, err := stopped(t, databaseURL+"&application_name=stopped", strings.NewReader(""), waits("%schema_migrations%"), "up", "--listen-addr", "localhost:0")
		if err != nil || strings.Contains(words, "error") {
			t.Errorf("it ends with %v: %s", err, words)
		}
	})
}

// The help names the modes, because it is shown without a database.
func TestHelpNamesTheModes(t *testing.T) {
	pool, databaseURL := dbtest.Schema(t)
	var want string
	if err := pool.QueryRowContext(t.Context(),
		"select string_agg(name, ' ' order by rank) from tinydevcrm.import_modes").Scan(&want); err != nil {
		t.Fatal(err)
	}
	help := mustCommand(t, databaseURL, "upload", "--help")
	_, usage, _ := strings.Cut(strings.Join(strings.Fields(help), " "), "--mode value ")
	usage, _, _ = strings.Cut(usage, "--")
	var got []string
	for _, mode := range regexp.MustCompile(`(\w+) \(`).FindAllStringSubmatch(usage, -1) {
		got = append(got, mode[1])
	}
	if want == "" || strings.Join(got, " ") != want {
		t.Errorf("the help names the modes %v, want %s: %s", got, want, usage)
	}
}
