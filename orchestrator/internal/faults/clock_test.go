//go:build faults

package faults

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// shift is inserted into package time of the program that buildShifted builds. Only the wall clock moves, as
// when somebody sets it. The monotonic clock does not.
const shift = `package time

import "syscall"

var faultClock, _ = syscall.Getenv("FAULT_CLOCK")

func faultShift(mono int64) int64 {
	switch faultClock {
	case "ahead":
		return 3600
	case "behind":
		return -3600
	case "stepping":
		if mono/2e9%2 == 0 {
			return 3600
		}
		return -3600
	}
	return 0
}
`

// buildShifted builds the program with a wall clock that FAULT_CLOCK moves. A Go program reads the time from
// the kernel's page, so a preloaded library cannot change it, and setting the machine's clock would affect
// everybody.
func buildShifted(t *testing.T) string {
	t.Helper()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(strings.TrimSpace(string(root)), "src", "time")
	text, err := os.ReadFile(filepath.Join(source, "time.go"))
	if err != nil {
		t.Fatal(err)
	}
	const reads = "sec, nsec, mono := runtimeNow()\n"
	if strings.Count(string(text), reads) != 1 {
		t.Fatalf("time.Now is not written as it was: %q is there %d times", reads, strings.Count(string(text), reads))
	}
	folder := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {
		filepath.Join(source, "time.go"):  write("time.go", strings.Replace(string(text), reads, reads+"\tsec += faultShift(mono)\n", 1)),
		filepath.Join(source, "fault.go"): write("fault.go", shift),
	}})
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(folder, "shifted")
	out, err := exec.Command("go", "build", "-overlay", write("overlay.json", string(overlay)), "-o", binary, "../..").CombinedOutput()
	if err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return binary
}

// aTime is a time in a statement, where our driver writes parameters. It could only come from the program.
var aTime = regexp.MustCompile(`(?m)^.*'\d{4}-\d\d-\d\d[ T]\d\d:\d\d.*$`)

func TestClockOfTheProgramIsWrong(t *testing.T) {
	shifted := buildShifted(t)
	server, pool := newServer(t)
	server.Set("log_statement", "all")
	server.Restart()
	answers(t, pool)
	var accepted, refused atomic.Int64
	var secret string
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		verifier, err := standardwebhooks.NewWebhook(secret)
		if err == nil {
			err = verifier.Verify(body, r.Header)
		}
		if err != nil {
			refused.Add(1)
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		accepted.Add(1)
	}))
	defer receiver.Close()
	secret = dbtest.Value[string](t, pool, "select tinydevcrm.create_webhook('w', $1)", dbtest.ByName(receiver.URL))

	var programs []*program
	for _, clock := range []string{"ahead", "behind", "stepping"} {
		accepted.Store(0)
		refused.Store(0)
		p := startUp(t, shifted, server.URL, "FAULT_CLOCK="+clock)
		programs = append(programs, p)
		if off := time.Until(firstLogged(t, p)).Abs(); off < 50*time.Minute {
			t.Fatalf("the clock is %s off only", off)
		}
		took := recovered(t, p, pool)
		upload := p.upload(clock, wholeFeed(1000))
		upload.says(t, 201)
		// Times of new events and imports are those of the server: they are of this minute.
		if late := dbtest.Value[bool](t, pool, `
			select exists (select from tinydevcrm.imports where abs(extract(epoch from now() - finished_at)) > 60)
			    or exists (select from tinydevcrm.matview_refresh_events where abs(extract(epoch from now() - started_at)) > 600)`); late {
			t.Error("a moment in the database is not of now")
		}
		dbtest.Eventually(t, dbtest.Deadline, "the webhook is tried", func() bool { return accepted.Load()+refused.Load() > 0 })
		ended := p.end()
		report(t, "clock of the program an hour "+clock, fmt.Sprintf("page and events in %s; upload: %d; webhook: %d accepted, %d refused by its time", seconds(took), upload.status, accepted.Load(), refused.Load()),
			"moments in the database are the server's; it ends in %s; %s", seconds(ended), allLogged(t, pool, programs...))
	}

	log, err := os.ReadFile(filepath.Join(filepath.Dir(server.Folder()), "log"))
	if err != nil {
		t.Fatal(err)
	}
	statements := strings.Count(string(log), "statement: ")
	if statements < 100 {
		t.Errorf("%d statements are in the server's log", statements)
	}
	if sent := aTime.FindString(string(log)); sent != "" {
		t.Errorf("the program sends a time of its own: %s", sent)
	}
	// The clock is set right: what the receiver had refused now arrives.
	dbtest.Exec(t, pool, "update tinydevcrm.deliveries set visible_at = now() where acknowledged_at is null")
	p := startUp(t, binary, server.URL)
	dbtest.Eventually(t, time.Minute, "all webhooks are accepted", func() bool {
		return dbtest.Value[int](t, pool, "select count(*) from tinydevcrm.deliveries where acknowledged_at is null") == 0
	})
	report(t, "clock put right", fmt.Sprintf("webhooks: %d accepted in all", accepted.Load()),
		"%d statements, none with a time of the program's; %s", statements, allLogged(t, pool, append(programs, p)...))
}

// firstLogged is the program's own time, in its first log line.
func firstLogged(t *testing.T, p *program) time.Time {
	t.Helper()
	line, _, _ := strings.Cut(p.stderr.String(), "\n")
	var first struct{ Time time.Time }
	if err := json.Unmarshal([]byte(line), &first); err != nil {
		t.Fatal(err)
	}
	return first.Time
}
