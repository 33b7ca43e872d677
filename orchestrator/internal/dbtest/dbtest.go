// Package dbtest gives tests a real database: a schema of their own on the server that the tests of a package
// share, or a whole server of their own.
package dbtest

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

// Deadline is how long a test waits for an expected event.
const Deadline = 30 * time.Second

// Schema makes a schema, and returns a pool and its URL, whose search_path begins with that schema. When the
// test ends, everything in it is dropped.
func Schema(t testing.TB) (*sql.DB, string) {
	t.Helper()
	schema := fmt.Sprintf("test_%d", time.Now().UnixNano())
	databaseURL := WithSearchPath(t, URL(t), schema)
	pool, err := db.Open(t.Context(), databaseURL, db.MaxConns)
	if err != nil {
		t.Fatal(err)
	}
	Exec(t, pool, "create schema "+schema)
	t.Cleanup(func() {
		// t.Context has ended by now.
		for _, statement := range []string{
			`select tinydevcrm.drop_matview(relation)
			   from tinydevcrm.matviews
			   join pg_class on pg_class.oid = relation
			  where relnamespace = '` + schema + `'::regnamespace
			  order by relation desc`,
			`drop schema ` + schema + ` cascade`,
			`delete from tinydevcrm.imports where schema_name = '` + schema + `'`,
			`delete from tinydevcrm.matview_refresh_events where matview like '` + schema + `.%'`,
			`delete from tinydevcrm.subscriptions`,
		} {
			if _, err := pool.ExecContext(context.Background(), statement); err != nil {
				t.Errorf("clean up: %v", err)
			}
		}
		pool.Close()
	})
	return pool, databaseURL
}

// WithSearchPath returns databaseURL with a search_path.
func WithSearchPath(t testing.TB, databaseURL, searchPath string) string {
	t.Helper()
	parsed, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	query := parsed.Query()
	query.Set("search_path", searchPath)
	parsed.RawQuery = query.Encode()
	return parsed.String()
}

// AsRole returns databaseURL with another role. A superuser's is postgres, in each profile of scripts/db.
func AsRole(databaseURL, role string) string {
	return user.ReplaceAllString(databaseURL, "user="+role)
}

var user = regexp.MustCompile(`user=[a-z]+`)

// Exec runs a statement that must succeed.
func Exec(t testing.TB, pool *sql.DB, statement string, args ...any) {
	t.Helper()
	if _, err := pool.ExecContext(t.Context(), statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// Value runs a query that must return one value.
func Value[T any](t *testing.T, pool *sql.DB, query string, args ...any) T {
	t.Helper()
	var value T
	if err := pool.QueryRowContext(t.Context(), query, args...).Scan(&value); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return value
}

// Column runs a query that returns one column.
func Column[T any](t *testing.T, pool *sql.DB, query string, args ...any) []T {
	t.Helper()
	rows, err := pool.QueryContext(t.Context(), query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	var values []T
	for rows.Next() {
		var value T
		if err := rows.Scan(&value); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		values = append(values, value)
	}
	if err := rows.Err(); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return values
}

// Eventually calls done until it returns true, and fails the test after the timeout.
func Eventually(t *testing.T, within time.Duration, what string, done func() bool) {
	t.Helper()
	end := time.Now().Add(within)
	for !done() {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %s", what, within)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// A Server is a Postgres server of one test, made by scripts/db.
type Server struct {
	t      *testing.T
	name   string
	bindir string
	folder string
	URL    string
	// address is where it listens in addition to its socket; empty for none.
	address string
	// isFast turns off durability, for a server that no test kills.
	isFast bool
	// profile is that of scripts/db; empty for a server whose first role is a superuser.
	profile string
	// original is the name of the server of which it is a copy; empty for none.
	original string
}

var servers atomic.Int32

// NewServer makes and starts an empty server, and destroys it when the test ends.
func NewServer(t *testing.T) *Server {
	t.Helper()
	return NewServerOf(t, os.Getenv("PG_BINDIR"))
}

// NewServerOf makes a server of the programs in bindir; of the machine's default version when bindir is empty.
func NewServerOf(t *testing.T, bindir string) *Server {
	t.Helper()
	return start(t, &Server{bindir: bindir, profile: os.Getenv("TINYDEVCRM_PROFILE")})
}

// IsRented reports whether the servers of NewServer are as one rents them: TINYDEVCRM_PROFILE=rented.
func IsRented() bool { return os.Getenv("TINYDEVCRM_PROFILE") == "rented" }

// NewRented makes a server as one rents it: the role of its URL is no superuser.
func NewRented(t *testing.T) *Server {
	t.Helper()
	return start(t, &Server{bindir: os.Getenv("PG_BINDIR"), isFast: true, profile: "rented"})
}

// NewMigrated makes a server with all migrations, and destroys it when the test ends. It is a copy of one that the first
// test to need it has migrated, because migrating takes longer than most of the tests.
func NewMigrated(t *testing.T) *Server {
	t.Helper()
	return start(t, &Server{bindir: os.Getenv("PG_BINDIR"), profile: os.Getenv("TINYDEVCRM_PROFILE"), original: migrated(t)})
}

func start(t *testing.T, s *Server) *Server {
	t.Helper()
	s.t, s.name = t, fmt.Sprintf("go%d-%d", os.Getpid(), servers.Add(1))
	t.Cleanup(func() { s.run("destroy") })
	s.run("reset")
	s.URL = strings.TrimSpace(s.run("url"))
	super, err := db.Open(t.Context(), AsRole(s.URL, "postgres"), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer super.Close()
	s.folder = Value[string](t, super, "show data_directory")
	return s
}

// Start starts the server after a Stop or a crash.
func (s *Server) Start() { s.run("start") }

// StartWithoutCron starts the server without preloading pg_cron. scripts/db reports that once the server runs.
func (s *Server) StartWithoutCron() {
	s.t.Helper()
	if output, err := s.command("start").CombinedOutput(); err == nil ||
		!strings.Contains(string(output), "without pg_cron") {
		s.t.Fatalf("scripts/db start: %v\n%s", err, output)
	}
}

// Stop stops the server in an orderly way.
func (s *Server) Stop() { s.run("stop") }

// Restart is a Stop and a Start, for settings that are read only at the start.
func (s *Server) Restart() {
	s.t.Helper()
	s.Stop()
	s.Start()
}

// Folder is the server's data directory.
func (s *Server) Folder() string { return s.folder }

// Kill kills the postmaster so that it cannot clean up.
func (s *Server) Kill() {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.folder, "postmaster.pid"))
	if err != nil {
		s.t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		s.t.Fatal(err)
	}
}

// Crash kills the postmaster, and waits until its child processes have noticed and ended.
func (s *Server) Crash() {
	s.t.Helper()
	s.Kill()
	Eventually(s.t, Deadline, "all processes of the server end", func() bool { return len(s.processes()) == 0 })
}

// Freeze stops all processes of the server until the returned function is called or the test ends.
func (s *Server) Freeze() (thaw func()) {
	s.t.Helper()
	frozen := s.processes()
	// A process that has ended meanwhile needs no signal.
	for _, pid := range frozen {
		_ = syscall.Kill(pid, syscall.SIGSTOP)
	}
	thaw = func() {
		for _, pid := range frozen {
			_ = syscall.Kill(pid, syscall.SIGCONT)
		}
	}
	s.t.Cleanup(thaw)
	return thaw
}

// processes are those whose working directory is the server's data directory.
func (s *Server) processes() []int {
	s.t.Helper()
	folders, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		s.t.Fatal(err)
	}
	var pids []int
	for _, folder := range folders {
		// The link of a process that has ended meanwhile cannot be read.
		if target, err := os.Readlink(folder); err != nil || target != s.folder {
			continue
		}
		pid, err := strconv.Atoi(strings.Split(folder, "/")[2])
		if err != nil {
			s.t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

// ListenOn makes the server listen on a loopback address of its own too, and returns that address. method is
// the authentication method for it, as pg_hba.conf names it; for scram-sha-256, passwords that are set from then on are
// stored so.
func (s *Server) ListenOn(method string) string {
	s.t.Helper()
	address := loopback()
	s.Append("pg_hba.conf", "host all all 127.0.0.0/8 "+method)
	// This file overrides what scripts/db writes at each start.
	s.Set("listen_addresses", address)
	if method == "scram-sha-256" {
		s.Set("password_encryption", method)
	}
	s.Restart()
	return address
}

// loopback returns an address that no other server uses.
func loopback() string {
	return fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(254), rand.IntN(255), 2+rand.IntN(250))
}

// Set changes a setting that the next start reads.
func (s *Server) Set(name, value string) {
	s.t.Helper()
	s.Append("postgresql.auto.conf", name+" = '"+value+"'")
}

// Write writes a file of the data directory, which only the server can read.
func (s *Server) Write(name string, content []byte) {
	s.t.Helper()
	owner, err := os.Stat(s.folder)
	if err != nil {
		s.t.Fatal(err)
	}
	file := filepath.Join(s.folder, name)
	if err := os.WriteFile(file, content, 0o600); err != nil {
		s.t.Fatal(err)
	}
	is := owner.Sys().(*syscall.Stat_t)
	if err := os.Chown(file, int(is.Uid), int(is.Gid)); err != nil {
		s.t.Fatal(err)
	}
}

// Append adds a line to one of the files of the data directory.
func (s *Server) Append(name, line string) {
	s.t.Helper()
	file, err := os.OpenFile(filepath.Join(s.folder, name), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	defer file.Close()
	if _, err := fmt.Fprintln(file, line); err != nil {
		s.t.Fatal(err)
	}
}

func (s *Server) command(command string) *exec.Cmd {
	s.t.Helper()
	// Most of these servers are durable, whatever the server of the other tests is, because tests kill them.
	execution := script(s.t, s.name, s.bindir, s.isFast, command)
	execution.Env = append(execution.Env, "TINYDEVCRM_PROFILE="+s.profile)
	execution.Env = append(execution.Env, "TINYDEVCRM_DB_COPY="+s.original)
	return execution
}

func (s *Server) run(command string) string {
	s.t.Helper()
	execution := s.command(command)
	execution.Stderr = os.Stderr
	output, err := execution.Output()
	if err != nil {
		s.t.Fatalf("scripts/db %s: %v", command, err)
	}
	return string(output)
}

// script runs scripts/db for the server of that name.
func script(t testing.TB, name, bindir string, isFast bool, command string) *exec.Cmd {
	t.Helper()
	fast := ""
	if isFast {
		fast = "1"
	}
	execution := exec.Command(filepath.Join(root(t), "scripts", "db"), command)
	execution.Env = append(os.Environ(), "TINYDEVCRM_DB="+name, "TINYDEVCRM_DB_FAST="+fast, "PG_BINDIR="+bindir)
	return execution
}

// root is the folder that holds go.mod.
func root(t testing.TB) string {
	t.Helper()
	folder, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(folder, "go.mod")); err == nil {
			return folder
		}
		if folder == filepath.Dir(folder) {
			t.Fatal("no go.mod above the working directory")
		}
		folder = filepath.Dir(folder)
	}
}

// ByName is the URL of a test's own HTTP server with a host name: the database refuses a private address for a webhook
// that no program has allowed yet.
func ByName(url string) string { return strings.Replace(url, "127.0.0.1", "localhost", 1) }

// Sample is the path of scripts/sample.csv.
func Sample(t *testing.T) string {
	t.Helper()
	return filepath.Join(root(t), "scripts", "sample.csv")
}
