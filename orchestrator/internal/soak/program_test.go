//go:build soak

package soak

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// build builds the program that is measured.
func build(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "orchestrator")
	command := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "../..")
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return binary
}

func run(t *testing.T, databaseURL, binary string, args ...string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), binary, args...)
	command.Env = append(os.Environ(), "DATABASE_URL="+databaseURL)
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
}

// A program is a process of `orchestrator up`. A fragile one is restarted when it ends.
type program struct {
	name, page, logPath string
	command             func() *exec.Cmd
	isFragile           bool
	ended               chan struct{}

	mu         sync.Mutex
	process    *os.Process
	runs       int
	isToEnd    bool
	lastResult error
}

// startProgram makes it listen on a port that is free now, and that stays the same after each start.
func startProgram(t *testing.T, binary, databaseURL, name string, isFragile bool) *program {
	t.Helper()
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := socket.Addr().String()
	socket.Close()
	log, err := os.Create(filepath.Join(t.TempDir(), name+".log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	p := &program{name: name, page: "http://" + addr, logPath: log.Name(), isFragile: isFragile, ended: make(chan struct{})}
	p.command = func() *exec.Cmd {
		command := exec.Command(binary, "up", "--listen-addr", addr, "--allow-webhooks-to", "127.0.0.0/8")
		command.Env = append(os.Environ(), "DATABASE_URL="+databaseURL+"&application_name="+name)
		command.Stderr = log // the log of events, on stdout, is not kept, because it is long
		return command
	}
	go p.keepRunning()
	t.Cleanup(func() { p.stop(); <-p.ended })
	return p
}

func (p *program) keepRunning() {
	defer close(p.ended)
	for {
		command := p.command()
		p.mu.Lock()
		if p.isToEnd {
			p.mu.Unlock()
			return
		}
		err := command.Start()
		p.process = command.Process
		p.runs++
		p.mu.Unlock()
		if err == nil {
			err = command.Wait()
		}
		p.mu.Lock()
		p.process, p.lastResult = nil, err
		isOver := p.isToEnd || !p.isFragile
		p.mu.Unlock()
		if isOver {
			return
		}
		// As a supervisor would do, because the database may be away.
		time.Sleep(time.Second)
	}
}

func (p *program) pid() (int, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.process == nil {
		return 0, false
	}
	return p.process.Pid, true
}

func (p *program) started() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.runs
}

// kill reports whether there was a process to kill.
func (p *program) kill() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.process != nil && p.process.Kill() == nil
}

// stop asks it to end.
func (p *program) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.isToEnd = true
	if p.process != nil {
		p.process.Signal(syscall.SIGTERM)
	}
}

// end requires that it has run until now and that it ends cleanly.
func (p *program) end(t *testing.T) {
	t.Helper()
	if _, isRunning := p.pid(); !isRunning {
		t.Errorf("the %s program has ended by itself: %v", p.name, p.lastResult)
	}
	p.stop()
	select {
	case <-p.ended:
		if p.lastResult != nil {
			t.Errorf("the %s program ended with %v", p.name, p.lastResult)
		}
	case <-time.After(dbtest.Deadline):
		t.Errorf("the %s program does not end", p.name)
		p.kill()
	}
}

func (p *program) waitReady(t *testing.T) {
	t.Helper()
	dbtest.Eventually(t, dbtest.Deadline, "the "+p.name+" program answers", func() bool {
		response, err := http.Get(p.page + "/matviews")
		if err != nil {
			return false
		}
		response.Body.Close()
		return response.StatusCode == http.StatusOK
	})
}

// complaints counts the warnings and errors in its log, by message. Those that say that the server is away
// count as one.
func (p *program) complaints(t *testing.T) map[string]int {
	t.Helper()
	text, err := os.ReadFile(p.logPath)
	if err != nil {
		t.Fatal(err)
	}
	wasAway := regexp.MustCompile(`\(57P0\d\)|EOF|bad connection|connection refused|reset by peer|broken pipe`)
	counts := make(map[string]int)
	for line := range bytes.Lines(text) {
		var entry struct{ Level, Msg, Error string }
		if json.Unmarshal(line, &entry) != nil {
			counts[fmt.Sprintf("no log line: %.80s", line)]++
			continue
		}
		// The dead webhook is down all the time.
		if (entry.Level == "WARN" || entry.Level == "ERROR") && !strings.HasPrefix(entry.Msg, "webhook endpoint is down") {
			complaint := fmt.Sprintf("%s: %.160s", entry.Msg, entry.Error)
			if wasAway.MatchString(entry.Error) {
				complaint = "the server was away"
			}
			counts[complaint]++
		}
	}
	return counts
}
