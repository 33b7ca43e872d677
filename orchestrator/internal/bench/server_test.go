//go:build bench

package bench

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// A bench is a migrated server with the settings that users have, and the built program. It runs what users
// run: psql, curl and the orchestrator, each as a process whose whole time is measured.
type bench struct {
	t      *testing.T
	root   string // of the checkout
	folder string
	binary string
	url    string
	times
}

// newBench starts the server by scripts/db.
func newBench(t *testing.T) *bench {
	t.Helper()
	b := prepare(t)
	b.t.Cleanup(func() { b.script("db", "destroy") })
	b.script("db", "reset")
	b.migrate("db")
	return b
}

// prepare builds the program.
func prepare(t *testing.T) *bench {
	t.Helper()
	say("scripts/bench %s", strings.ToLower(strings.TrimPrefix(t.Name(), "Test")))
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	// On the disk of the checkout, which the server uses too.
	b := &bench{t: t, root: root, folder: filepath.Join(root, ".run", "bench"), times: make(times)}
	if err := os.MkdirAll(b.folder, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(b.folder) })
	b.binary = b.path("orchestrator")
	b.run("go", "build", "-o", b.binary, filepath.Join(root, "orchestrator"))
	return b
}

// migrate migrates the server of a script, "db" or "citus".
func (b *bench) migrate(script string) {
	b.t.Helper()
	b.url = b.script(script, "url")
	b.orchestrator("migrate", "up")
}

func say(format string, args ...any) { fmt.Printf("==> "+format+"\n", args...) }

// sizeOf returns TINYDEVCRM_BENCH_SIZE, or the default size.
func sizeOf(t *testing.T, usual int) int { return setting(t, "TINYDEVCRM_BENCH_SIZE", usual) }

// runsOf returns TINYDEVCRM_BENCH_RUNS, or five.
func runsOf(t *testing.T) int { return setting(t, "TINYDEVCRM_BENCH_RUNS", 5) }

func setting(t *testing.T, name string, usual int) int {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		return usual
	}
	number, err := strconv.Atoi(value)
	if err != nil || number < 1 {
		t.Fatalf("%s is %q; give a number, 1 or more", name, value)
	}
	return number
}

// path is the path of a file of this measurement.
func (b *bench) path(name string) string { return filepath.Join(b.folder, name) }

// command is a command with the server's URL in its environment.
func (b *bench) command(name string, args ...string) *exec.Cmd {
	command := exec.CommandContext(b.t.Context(), name, args...)
	command.Env = append(os.Environ(), "DATABASE_URL="+b.url)
	return command
}

// run runs a program that must succeed, and returns its output.
func (b *bench) run(name string, args ...string) string {
	b.t.Helper()
	return b.output(b.command(name, args...))
}

func (b *bench) output(command *exec.Cmd) string {
	b.t.Helper()
	var stderr bytes.Buffer
	command.Stderr = &stderr
	output, err := command.Output()
	if err != nil {
		b.t.Fatalf("%s: %v\n%s", command, err, stderr.String())
	}
	return strings.TrimRight(string(output), "\n")
}

func (b *bench) orchestrator(args ...string) {
	b.t.Helper()
	b.run(b.binary, args...)
}

// query runs statements in a session of their own, and returns their output.
func (b *bench) query(statements string) string {
	b.t.Helper()
	command := b.command("psql", b.url, "-XAtqc", statements)
	command.Env = append(command.Env, "PGOPTIONS=-c client_min_messages=warning")
	return b.output(command)
}

func (b *bench) queryNumber(statements string) float64 {
	b.t.Helper()
	number, err := strconv.ParseFloat(b.query(statements), 64)
	if err != nil {
		b.t.Fatalf("%s: %v", statements, err)
	}
	return number
}

// script runs one of the scripts that manage servers.
func (b *bench) script(name string, args ...string) string {
	b.t.Helper()
	output, err := b.tryScript(name, args...)
	if err != nil {
		b.t.Fatalf("scripts/%s %v: %v", name, args, err)
	}
	return output
}

func (b *bench) tryScript(name string, args ...string) (string, error) {
	// Not with the test's context, because the server is destroyed after that has ended.
	command := exec.Command(filepath.Join(b.root, "scripts", name), args...)
	command.Env = append(os.Environ(), "TINYDEVCRM_DB=bench", "TINYDEVCRM_DB_FAST=")
	command.Stderr = os.Stderr
	output, err := command.Output()
	return strings.TrimSpace(string(output)), err
}

// exitCode is the exit code of a program that has ended.
func exitCode(err error) int {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	return -1
}

// timed records how long a run of a way takes.
func (b *bench) timed(way string, run func()) {
	b.t.Helper()
	began := time.Now()
	run()
	b.times[way] = append(b.times[way], time.Since(began).Seconds())
}

// serve starts the orchestrator, waits until it answers, and returns the page's URL without a slash at its end.
func (b *bench) serve() string {
	b.t.Helper()
	log, err := os.Create(b.path("log"))
	if err != nil {
		b.t.Fatal(err)
	}
	server := exec.Command(b.binary, "up", "--listen-addr", "127.0.0.1:0")
	server.Env = append(os.Environ(), "DATABASE_URL="+b.url)
	server.Stderr = log
	if err := server.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGTERM)
		if err := server.Wait(); err != nil {
			b.t.Errorf("the orchestrator ended with %v", err)
		}
		log.Close()
	})
	address := regexp.MustCompile(`"page":"([^"]*)/"`)
	var page string
	dbtest.Eventually(b.t, dbtest.Deadline, "the orchestrator is ready", func() bool {
		text, err := os.ReadFile(log.Name())
		if err != nil {
			b.t.Fatal(err)
		}
		found := address.FindSubmatch(text)
		if found != nil {
			page = string(found[1])
		}
		return found != nil
	})
	return page
}
