package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// The page without users works with the role that the compose files create, which is no superuser and owns what
// is created on the page.
func TestThePageIsNoSuperuser(t *testing.T) {
	t.Parallel()
	server := dbtest.NewMigrated(t)
	super := openPool(t, server.URL)
	// As the second "up" does.
	for range 2 {
		making := exec.Command(filepath.Join(os.Getenv("PG_BINDIR"), "psql"), "-X", "--set=ON_ERROR_STOP=1", "--file=../docker/runner.sql", server.URL)
		making.Env = append(os.Environ(), "RUNNER_PASSWORD=it's \\a \"secret")
		if output, err := making.CombinedOutput(); err != nil {
			t.Fatalf("runner.sql: %v\n%s", err, output)
		}
	}
	url := dbtest.AsRole(server.URL, "runner")
	stdout, stderr := background(t, url, "up", "--listen-addr", "localhost:0")
	page := &site{t: t, url: pageOf(t, stderr), super: super}

	if status, body := page.upload("", "", "n\n1\n2\n"); status != http.StatusCreated {
		t.Fatalf("upload: %d %s", status, body)
	}
	for _, post := range [][]string{
		{"/matviews", "name", "v", "query", "select * from numbers", "notify_when", "always"},
		{"/matviews/schedule", "relation", "v", "schedule", "1 second"},
		{"/matviews/refresh", "relation", "v"},
		{"/matviews/embed", "relation", "v", "origins", "*"},
		{"/subscriptions", "new_subscription", "s", "new_matview", "v", "url", "https://example.com/"},
	} {
		if status, body := page.post("", post[0], post[1:]...); status >= 300 {
			t.Fatalf("%v: %d %s", post, status, body)
		}
	}
	for path, want := range map[string]string{"/tables": "/tables/public.numbers", "/": "/views/public.v"} {
		if _, body := page.sees("", path); !strings.Contains(body, want) {
			t.Errorf("%s lacks %s: %s", path, want, body)
		}
	}
	for path, want := range map[string]string{"/matviews/v.csv": "1\r\n2", "/events?of=public.v": "refreshed", "/embed/public.v": "<td>2</td>"} {
		if status, body := page.get("", path); status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if status, body := page.post("", "/matviews", "name", "w", "query", "select pg_read_file('postgresql.conf') as c"); status != http.StatusForbidden {
		t.Errorf("a file of the server: %d %s", status, body)
	}
	if owners := dbtest.Value[string](t, super, "select string_agg(distinct relowner::regrole::text, ',') from pg_class where relnamespace = 'public'::regnamespace and relname in ('numbers', 'v')"); owners != "runner" {
		t.Errorf("what was made belongs to %s", owners)
	}
	if dbtest.Value[bool](t, super, "select rolsuper or rolcreaterole or rolcreatedb or rolbypassrls from pg_roles where rolname = 'runner'") {
		t.Error("the role has more rights than it needs")
	}
	// Where pg_cron has no seconds, the loop begins at the full minute.
	dbtest.Eventually(t, 90*time.Second, "its schedule runs", func() bool {
		for _, event := range stdout.events(t) {
			if event.ScheduleID != 0 {
				return true
			}
		}
		return false
	})
}

// The files that docker/passwords makes let each service of the compose files in, and only as its role.
func TestThePasswordsOfCompose(t *testing.T) {
	server := dbtest.NewMigrated(t)
	address := server.ListenOn("scram-sha-256")
	super := openPool(t, server.URL)
	folder := t.TempDir()
	for _, role := range []string{"postgres", "runner"} {
		if err := os.Mkdir(filepath.Join(folder, role), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	making := exec.CommandContext(t.Context(), "../docker/passwords", folder)
	making.Env = append(os.Environ(), `POSTGRES_PASSWORD=a:b\c d`, fmt.Sprintf("RUNNER_OWNER=%d:%d", os.Getuid(), os.Getgid()))
	if output, err := making.CombinedOutput(); err != nil {
		t.Fatalf("docker/passwords: %v\n%s", err, output)
	}
	dbtest.Exec(t, super, `alter role postgres password 'a:b\c d'`)
	password, err := os.ReadFile(filepath.Join(folder, "runner/password"))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("RUNNER_PASSWORD", string(password))
	runTool(t, nil, "psql", "-X", "--set=ON_ERROR_STOP=1", "--file=../docker/runner.sql", server.URL)
	as := func(role string) string { return "postgres://" + role + "@" + address + "/tinydevcrm?sslmode=disable" }

	t.Setenv("PGPASSFILE", filepath.Join(folder, "postgres/pgpass"))
	mustCommand(t, as("postgres"), "migrate", "up")
	if _, stderr, err := command(t, as("runner"), "", "status"); err == nil || !strings.Contains(stderr, "password authentication failed") {
		t.Errorf("the superuser's password lets the runner in: %v %s", err, stderr)
	}
	t.Setenv("PGPASSFILE", filepath.Join(folder, "runner/pgpass"))
	background(t, as("runner"), "up", "--listen-addr", "localhost:0")
}
