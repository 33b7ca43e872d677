package docs_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// sessions are the documents whose blocks are run one after another, as a reader would type them, on a server of their
// own.
var sessions = []string{
	"orchestrator/docs/TUTORIAL.md",
	"orchestrator/docs/COOKBOOK.md",
	httpAPI,
	"orchestrator/OPERATIONS.md",
	"orchestrator/README.md",
	"migrations/README.md",
}

// languages say how a block of a session is run:
//
//	sh        by bash; "sh background" is the program, which goes on running
//	sql       by psql
//	mustache  as the title, which is its first line, and the message of a subscription
//	output    is not run: what the block before it has printed. … stands for anything. "output received" is the text of
//	          the next post to a channel
//	http      the same of a curl: its status, and its body
//	json      what was notified: fields of the next event, or with "json received" the next post to an endpoint
var languages = []string{"sh", "sql", "mustache", "output", "http", "json"}

// A session runs the blocks of a document.
type session struct {
	t      *testing.T
	server *dbtest.Server
	// folder stands for /tmp and for a clone of the repository, bin has the program by its name.
	folder, bin string
	// stop ends the program.
	stop func()
	// front passes requests to the program on, and checks that they are as openapi.json says.
	front    *front
	receiver *receiver
	// printed is what the last block has printed.
	printed string
	// lastEvent is the newest event that a block has shown.
	lastEvent int64
	// updates are new texts of blocks, by their first line.
	updates map[int]string
}

// TestDocuments runs the blocks of the documents. With DOCS_UPDATE=1 it writes what was printed into the documents, to
// be read before it is committed.
func TestDocuments(t *testing.T) {
	dbtest.SameOnEveryServer(t)
	for _, file := range sessions {
		t.Run(strings.ReplaceAll(file, "/", "_"), func(t *testing.T) {
			t.Parallel()
			s := newSession(t)
			if os.Getenv("DOCS_UPDATE") != "" {
				defer s.update(file)
			}
			for _, b := range readBlocks(t, file) {
				if isRunHere(b) {
					s.run(b)
				}
				if t.Failed() && os.Getenv("DOCS_UPDATE") == "" {
					break
				}
			}
			if file == httpAPI && !t.Failed() {
				s.front.checkCoverage()
			}
		})
	}
}

func newSession(t *testing.T) *session {
	t.Helper()
	s := &session{t: t, server: dbtest.NewMigrated(t), folder: t.TempDir(), bin: t.TempDir(), updates: map[int]string{}}
	s.receiver = newReceiver(t)
	s.front = newFront(t)
	for _, name := range []string{"docker", "extensions", "migrations", "scripts"} {
		path, err := filepath.Abs(filepath.Join(root, name))
		if err == nil {
			err = os.Symlink(path, filepath.Join(s.folder, name))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	// The receivers of the test are on this machine, and the page is on a port of its own.
	wrapper := fmt.Sprintf(`#!/usr/bin/env bash
case ${1:-up} in
    up) exec %[1]s up "${@:2}" --allow-webhooks-to 127.0.0.0/8 --listen-addr %[2]s ;;
    *) exec %[1]s "$@" ;;
esac
`, program(t), s.front.program)
	if err := os.WriteFile(filepath.Join(s.bin, "orchestrator"), []byte(wrapper), 0o700); err != nil {
		t.Fatal(err)
	}
	return s
}

// built is the program, which all sessions run.
var built struct {
	once   sync.Once
	folder string
}

func program(t *testing.T) string {
	t.Helper()
	built.once.Do(func() {
		folder, err := os.MkdirTemp("", "docs")
		if err != nil {
			t.Fatal(err)
		}
		built.folder = folder
		if output, err := exec.Command("go", "build", "-o", filepath.Join(folder, "orchestrator"), root+"/orchestrator").CombinedOutput(); err != nil {
			t.Fatalf("go build: %v\n%s", err, output)
		}
	})
	return filepath.Join(built.folder, "orchestrator")
}

// here replaces what a document names by what the test has in its place.
func (s *session) here(text string) string {
	return strings.NewReplacer(
		"https://hooks.slack.com/services/T000/B000/XXXX", s.receiver.url+"/slack --format slack",
		"https://example.com/hook", s.receiver.url+"/hook",
		"localhost:5000", s.front.address,
		"/tmp/", s.folder+"/",
		"go run ./orchestrator", "orchestrator",
	).Replace(text)
}

func (s *session) run(b block) {
	s.t.Helper()
	switch b.language {
	case "sh":
		if b.info == "background" {
			s.start(b)
			return
		}
		s.printed = s.shell(b, "bash", "-euo", "pipefail", "-c",
			fmt.Sprintf("[ ! -f %[1]s/.env ] || . %[1]s/.env\n%[2]s\nexport -p >%[1]s/.env", s.bin, s.here(b.text)))
	case "sql":
		s.printed = s.sql(b, "-X", s.here(b.text))
	case "mustache":
		title, message, _ := strings.Cut(b.text, "\n")
		s.sql(b, "-X", fmt.Sprintf("select tinydevcrm.preview_message(min(name), %s, %s) from tinydevcrm.subscriptions",
			pq.QuoteLiteral(title), pq.QuoteLiteral(message)))
	case "step":
		if b.text == "stop" {
			s.stop()
			return
		}
		s.sql(b, "-XAtq", b.text)
	case "output":
		if b.info == "received" {
			s.printed = shown(s.wait(b, s.receiver.next))
		}
		s.expect(b, s.printed)
	case "http":
		s.expect(b, s.front.lastAnswer(s.printed))
	case "json":
		s.expectNotified(b)
	}
}

// sql runs statements one after another, each a transaction of its own.
func (s *session) sql(b block, flags, text string) string {
	s.t.Helper()
	command := s.command(psql(), flags, "-v", "ON_ERROR_STOP=1", "-f", "-")
	command.Stdin = strings.NewReader(text)
	return s.output(b, command)
}

func psql() string { return filepath.Join(os.Getenv("PG_BINDIR"), "psql") }

func (s *session) command(name string, args ...string) *exec.Cmd {
	command := exec.Command(name, args...)
	command.Dir = s.folder
	command.Env = append(os.Environ(), "DATABASE_URL="+s.server.URL, "PATH="+s.bin+":"+os.Getenv("PATH"), "HOME="+s.folder)
	if name == psql() {
		command.Args = append(command.Args, s.server.URL)
	}
	return command
}

// shell runs a command, and returns what it prints.
func (s *session) shell(b block, name string, args ...string) string {
	s.t.Helper()
	return s.output(b, s.command(name, args...))
}

func (s *session) output(b block, command *exec.Cmd) string {
	s.t.Helper()
	output, err := command.CombinedOutput()
	printed := strings.NewReplacer(
		s.receiver.url, "https://example.com",
		s.front.address, "localhost:5000",
		dbtest.ByName(s.front.program), "localhost:5000",
		s.folder+"/", "/tmp/",
	).Replace(string(output))
	if err != nil {
		s.t.Fatalf("%s: %v\n%s", b, err, printed)
	}
	return printed
}

// start runs the program until the test ends.
func (s *session) start(b block) {
	s.t.Helper()
	program := s.command("bash", "-euo", "pipefail", "-c", "exec "+strings.TrimSpace(s.here(b.text)))
	log := &dbtest.Output{}
	program.Stdout, program.Stderr = log, log
	if err := program.Start(); err != nil {
		s.t.Fatalf("%s: %v", b, err)
	}
	s.stop = sync.OnceFunc(func() {
		_ = program.Process.Signal(syscall.SIGTERM)
		if err := program.Wait(); err != nil {
			s.t.Errorf("%s: %v\n%s", b, err, log)
		}
	})
	s.t.Cleanup(s.stop)
	dbtest.Eventually(s.t, dbtest.Deadline, "the program is ready: "+b.String(), func() bool {
		answer, err := http.Get("http://" + s.front.program + "/readyz")
		if err == nil {
			answer.Body.Close()
		}
		return err == nil && answer.StatusCode == http.StatusOK
	})
}

// expect compares what was printed with a block.
func (s *session) expect(b block, printed string) {
	s.t.Helper()
	printed = strings.Trim(trailing.ReplaceAllString(printed, ""), "\n")
	want := strings.Trim(b.text, "\n")
	if isLike(printed, want) {
		return
	}
	if b.language == "http" && isLikeAnswer(printed, want) {
		return
	}
	if os.Getenv("DOCS_UPDATE") != "" {
		s.updates[b.first] = differing.ReplaceAllString(printed, `$1"…"`)
		return
	}
	s.t.Errorf("%s: it prints\n%s\nand not\n%s", b, printed, want)
}

// expectNotified waits for the next event or post, which must be like the block.
func (s *session) expectNotified(b block) {
	s.t.Helper()
	var want any
	var err error
	isNew := os.Getenv("DOCS_UPDATE") != "" && strings.TrimSpace(b.text) == ""
	if !isNew {
		if want, err = readJSON([]byte(b.text)); err != nil {
			s.t.Fatalf("%s: %v", b, err)
		}
	}
	next := s.nextEvent
	if b.info == "received" {
		next = s.receiver.next
	}
	found := s.wait(b, next)
	if isNew {
		s.updates[b.first] = layOut(string(found))
		return
	}
	got, err := readJSON(found)
	if fields, isObject := want.(map[string]any); isObject && b.info != "received" {
		fields[anything] = anything
	}
	if err != nil || !isLikeJSON(got, want) {
		s.t.Fatalf("%s: it is notified of\n%s", b, found)
	}
}

// wait waits for what next returns.
func (s *session) wait(b block, next func() []byte) (found []byte) {
	s.t.Helper()
	dbtest.Eventually(s.t, dbtest.Deadline, b.String()+": something is notified", func() bool {
		found = next()
		return found != nil
	})
	return found
}

// nextEvent is the next event that notifies, or that a subscription has a delivery of; nil for none yet.
func (s *session) nextEvent() []byte {
	output, err := s.command(psql(), "-XAtq", "-c", fmt.Sprintf(`
		select id, tinydevcrm.event_json(events)
		  from tinydevcrm.matview_refresh_events as events
		 where is_notified
		   and id > %d
		 order by id
		 limit 1`, s.lastEvent)).Output()
	if err != nil {
		s.t.Fatal(err)
	}
	id, event, isThere := strings.Cut(strings.TrimSpace(string(output)), "|")
	if !isThere {
		return nil
	}
	fmt.Sscan(id, &s.lastEvent)
	return []byte(event)
}

// update writes what was printed into the document.
func (s *session) update(file string) {
	s.t.Helper()
	path := filepath.Join(root, file)
	content, err := os.ReadFile(path)
	if err != nil {
		s.t.Fatal(err)
	}
	lines := strings.Split(string(content), "\n")
	for _, b := range slices.Backward(readBlocks(s.t, file)) {
		if text, isNew := s.updates[b.first]; isNew {
			lines = slices.Replace(lines, b.first, b.last-1, strings.Split(text, "\n")...)
		}
	}
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		s.t.Fatal(err)
	}
}
