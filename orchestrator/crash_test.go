//go:build faults

package main

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// TestNothingIsLostInFiftyCrashes tests the promise "at least once": whatever is killed, and whenever, each
// committed event is logged and accepted by the webhook, and a repetition has the same id.
func TestNothingIsLostInFiftyCrashes(t *testing.T) {
	const rounds, writers = 50, 3
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	pool, server := newServer(t)
	dbtest.Exec(t, pool, "select tinydevcrm.create_subscription($1)", logSubscription)
	r, _ := newWebhook(t, pool, "w", moody(seed))
	service := startService(t, server.URL)

	var sources []*writer
	for i := range writers {
		sources = append(sources, startWriter(t, pool, fmt.Sprintf("v%d", i), seed+uint64(i)+1))
	}
	c := newCrasher(t, server, pool, service, seed)
	kinds := make(map[string]int)
	for range rounds {
		kinds[c.crash()]++
	}
	confirmed := make(map[int64]bool)
	for _, source := range sources {
		for _, id := range source.end() {
			confirmed[id] = true
		}
	}

	// What a killed orchestrator had received is delivered again after half a minute for the log, and after a
	// whole minute for webhooks. How long all take depends on how many events there were: each refusal holds up its view
	// for some seconds.
	start := time.Now()
	for left := math.MaxInt; left > 0; {
		dbtest.Eventually(t, 2*time.Minute, fmt.Sprintf("fewer than %d wait", left), func() bool {
			var waiting int
			err := pool.QueryRowContext(t.Context(),
				"select count(*) from tinydevcrm.deliveries where acknowledged_at is null").Scan(&waiting)
			isLess := err == nil && waiting < left
			if isLess {
				left = waiting
			}
			return isLess
		})
	}
	t.Logf("crashes: %v; the program was started %d times; all was acknowledged %s later",
		kinds, service.started(), time.Since(start).Round(time.Second))
	service.end()
	checkNothingIsLost(t, pool, confirmed, service, r)
}

// moody answers slowly from time to time, and answers the first attempt at some events with an error.
func moody(seed uint64) answer {
	var mu sync.Mutex
	chance := rand.New(rand.NewPCG(seed, 1))
	return func(_ http.ResponseWriter, _ *http.Request, attempt int) int {
		mu.Lock()
		isSlow, isBad := chance.IntN(20) == 0, chance.IntN(10) == 0
		pause := time.Duration(chance.IntN(300)) * time.Millisecond
		mu.Unlock()
		if isSlow {
			time.Sleep(pause)
		}
		if isBad && attempt == 0 {
			return http.StatusInternalServerError
		}
		return http.StatusOK
	}
}

// checkNothingIsLost requires all events to be logged and accepted. confirmed are the events whose commit was
// confirmed to the writer.
func checkNothingIsLost(t *testing.T, pool *sql.DB, confirmed map[int64]bool, s *service, r *receiver) {
	t.Helper()
	events := dbtest.Column[int64](t, pool, "select id from tinydevcrm.matview_refresh_events where is_notified order by id")
	logged, accepted := s.logged(t), r.accepted()
	logRepeats, hookRepeats := 0, 0
	for _, id := range events {
		if logged[id] == 0 {
			t.Errorf("event %d is in no log", id)
		}
		if accepted[id] == 0 {
			t.Errorf("event %d was not accepted", id)
		}
		logRepeats += logged[id] - 1
		hookRepeats += accepted[id] - 1
		delete(confirmed, id)
	}
	if len(confirmed) > 0 {
		t.Errorf("%d committed events are lost", len(confirmed))
	}
	if len(logged) != len(events) || len(accepted) != len(events) {
		t.Errorf("%d events are logged and %d accepted, but there are %d", len(logged), len(accepted), len(events))
	}
	r.checkIDs(t)
	requests := r.all()
	refused := 0
	for _, request := range requests {
		if request.status == http.StatusInternalServerError {
			refused++
		}
	}
	t.Logf("%d events; %d more lines in the logs; %d requests, of which %d were refused and %d accepted once more",
		len(events), logRepeats, len(requests), refused, hookRepeats)
}

// A writer refreshes a materialized view of its own over and over, in transactions that may stay open for a
// moment, so that ids do not become visible in order.
type writer struct {
	pool   *sql.DB
	view   string
	chance *rand.Rand
	cancel context.CancelFunc
	ended  chan struct{}
	ids    []int64
}

func startWriter(t *testing.T, pool *sql.DB, view string, seed uint64) *writer {
	t.Helper()
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview($1, 'select 1 as one', 'always')", view)
	ctx, cancel := context.WithCancel(t.Context())
	w := &writer{
		pool:   pool,
		view:   view,
		chance: rand.New(rand.NewPCG(seed, 2)),
		cancel: cancel,
		ended:  make(chan struct{}),
	}
	go func() {
		defer close(w.ended)
		for ctx.Err() == nil {
			// An error means that the server is or went down. Then it is unknown whether the event was
			// committed.
			if id, err := w.refresh(ctx); err == nil {
				w.ids = append(w.ids, id)
			}
			time.Sleep(time.Duration(w.chance.IntN(20)) * time.Millisecond)
		}
	}()
	t.Cleanup(func() { w.end() })
	return w
}

// refresh returns the id of a committed event.
func (w *writer) refresh(ctx context.Context) (int64, error) {
	tx, err := w.pool.BeginTx(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer tx.Rollback()
	var id int64
	if err := tx.QueryRowContext(ctx,
		"select id from tinydevcrm.refresh_matview($1::text::regclass)", w.view).Scan(&id); err != nil {
		return 0, err
	}
	if _, err := tx.ExecContext(ctx, "select pg_sleep($1)", w.chance.Float64()/50); err != nil {
		return 0, err
	}
	return id, tx.Commit()
}

func (w *writer) end() []int64 {
	w.cancel()
	<-w.ended
	return w.ids
}

// A service runs the program as a process, and restarts it whenever it ends, each time with another log.
type service struct {
	databaseURL string
	binary      string
	folder      string
	end         func()

	mu      sync.Mutex
	process *os.Process
	runs    int
}

// serviceName is the application_name of the program's connections.
const serviceName = "service"

func startService(t *testing.T, databaseURL string) *service {
	t.Helper()
	s := &service{
		databaseURL: databaseURL + "&application_name=" + serviceName,
		binary:      filepath.Join(t.TempDir(), "orchestrator"),
		folder:      t.TempDir(),
	}
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", s.binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		var err error
		for ctx.Err() == nil {
			if err = s.run(ctx); err != nil && ctx.Err() == nil {
				time.Sleep(50 * time.Millisecond)
			}
		}
		ended <- err
	}()
	s.end = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the last run ended with %v", err)
		}
	})
	t.Cleanup(s.end)
	return s
}

// run is one run of the program. The program is asked to end when ctx ends.
func (s *service) run(ctx context.Context) error {
	reader, stdout, err := os.Pipe()
	if err != nil {
		return err
	}
	defer reader.Close()
	// What has been read is in the file when this returns.
	defer s.keepLog(reader)()
	defer stdout.Close()
	// It reads one page at a time, so that the program often waits until its log is read.
	if _, _, code := syscall.Syscall(syscall.SYS_FCNTL, stdout.Fd(), syscall.F_SETPIPE_SZ, 4096); code != 0 {
		return fmt.Errorf("make the pipe small: %w", code)
	}
	command := exec.Command(s.binary, upWithWebhooks...)
	command.Env = append(os.Environ(), "DATABASE_URL="+s.databaseURL)
	command.Stdout = stdout
	if err := command.Start(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { command.Process.Signal(syscall.SIGTERM) })
	defer stop()
	s.mu.Lock()
	s.process = command.Process
	s.runs++
	s.mu.Unlock()
	return command.Wait()
}

// keepLog copies what it reads to a file, with pauses, until the end, and then sends the result.
func (s *service) keepLog(reader io.Reader) (wait func()) {
	path := filepath.Join(s.folder, fmt.Sprintf("%04d.log", s.started()))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		var log []byte
		page := make([]byte, 4096)
		for {
			count, err := reader.Read(page)
			log = append(log, page[:count]...)
			if err != nil {
				break
			}
			time.Sleep(time.Duration(rand.IntN(200)) * time.Millisecond)
		}
		if err := os.WriteFile(path, log, 0o600); err != nil {
			panic(err)
		}
	}()
	return func() { <-ended }
}

func (s *service) started() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.runs
}

// kill reports whether there was a process to kill.
func (s *service) kill() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process != nil && s.process.Kill() == nil
}

// logged returns how often each event is in the logs. No run logs an event twice.
func (s *service) logged(t *testing.T) map[int64]int {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(s.folder, "*.log"))
	if err != nil {
		t.Fatal(err)
	}
	counts := make(map[int64]int)
	for _, path := range logs {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		ofRun := make(map[int64]bool)
		for _, event := range eventLines(t, string(text)) {
			if ofRun[event.EventID] {
				t.Errorf("%s has event %d twice", filepath.Base(path), event.EventID)
			}
			ofRun[event.EventID] = true
			counts[event.EventID]++
		}
	}
	return counts
}

// A crasher kills the program, one of its backends or the server.
type crasher struct {
	t       *testing.T
	server  *dbtest.Server
	pool    *sql.DB
	service *service
	chance  *rand.Rand
}

func newCrasher(t *testing.T, server *dbtest.Server, pool *sql.DB, s *service, seed uint64) *crasher {
	t.Helper()
	return &crasher{t, server, pool, s, rand.New(rand.NewPCG(seed, 3))}
}

// crash kills something at a random moment and returns what.
func (c *crasher) crash() string {
	c.t.Helper()
	time.Sleep(time.Duration(c.chance.IntN(300)) * time.Millisecond)
	switch kind := c.chance.IntN(10); {
	case kind < 4:
		dbtest.Eventually(c.t, dbtest.Deadline, "the program runs", c.service.kill)
		return "orchestrator"
	case kind < 6:
		c.onBackend("terminate a backend", func(pid int) error {
			_, err := c.pool.ExecContext(c.t.Context(), "select pg_terminate_backend($1)", pid)
			return err
		})
		return "backend terminated"
	case kind < 8:
		c.onBackend("kill a backend", func(pid int) error { return syscall.Kill(pid, syscall.SIGKILL) })
		return "backend killed"
	default:
		c.server.Kill()
		c.server.Start()
		return "postmaster"
	}
}

// onBackend runs a function on one of the program's backends, once there is one.
func (c *crasher) onBackend(what string, do func(pid int) error) {
	c.t.Helper()
	dbtest.Eventually(c.t, dbtest.Deadline, what, func() bool {
		var pid int
		err := c.pool.QueryRowContext(c.t.Context(),
			"select pid from pg_stat_activity where application_name = $1 order by random() limit 1",
			serviceName).Scan(&pid)
		return err == nil && do(pid) == nil
	})
}
