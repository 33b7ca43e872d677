package main

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// address finds one of the addresses that the program logs when it is ready.
func address(t *testing.T, stderr *output, key string) string {
	t.Helper()
	var found string
	dbtest.Eventually(t, dbtest.Deadline, "it is ready", func() bool {
		_, rest, ok := strings.Cut(stderr.String(), `"`+key+`":"`)
		found, _, _ = strings.Cut(rest, `"`)
		return ok
	})
	return strings.TrimSuffix(strings.TrimSuffix(found, "/metrics"), "/")
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	client := http.Client{Timeout: dbtest.Deadline}
	response, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// metric is the value of a line of /metrics, and whether it exists.
func metric(t *testing.T, base, name string) (float64, bool) {
	t.Helper()
	status, body := get(t, base+"/metrics")
	if status != http.StatusOK {
		t.Fatalf("/metrics: %d: %s", status, body)
	}
	for line := range strings.Lines(body) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			value, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			if err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			return value, true
		}
	}
	return 0, false
}

func mustMetric(t *testing.T, base, name string) float64 {
	t.Helper()
	value, ok := metric(t, base, name)
	if !ok {
		t.Fatalf("there is no %s", name)
	}
	return value
}

func TestMetricsOfTheRunningProgram(t *testing.T) {
	pool, databaseURL := dbtest.Schema(t)
	_, stderr := background(t, databaseURL, "up", "--listen-addr", "localhost:0", "--metrics-addr", "localhost:0")
	page, base := address(t, stderr, "page"), address(t, stderr, "metrics")
	mustMetric(t, base, fmt.Sprintf(`tinydevcrm_build_info{commit="",go_version=%q,version="unknown"}`, runtime.Version()))
	if status, _ := get(t, page+"/metrics"); status != http.StatusNotFound {
		t.Errorf("/metrics has an address of its own and is on the page: %d", status)
	}

	const failed = `tinydevcrm_refreshes_total{outcome="failed"}`
	dbtest.Exec(t, pool, "create table numbers as select 1 as n")
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select 1 / n as n from numbers')")
	dbtest.Exec(t, pool, "update numbers set n = 0")
	before := mustMetric(t, base, failed)
	dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('v')")
	if now := mustMetric(t, base, failed); now != before+1 {
		t.Errorf("%v failures are counted, want 1", now-before)
	}

	for _, upload := range []struct{ body, outcome string }{
		{"n\n1\n", "imported"},
		{"n,m\n1\n", "refused"},
	} {
		response, err := http.Post(page+"/upload-file", "multipart/form-data; boundary=x", strings.NewReader(
			"--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"some.csv\"\r\n\r\n"+upload.body+"\r\n--x--\r\n"))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if count := mustMetric(t, base, `tinydevcrm_uploads_total{outcome="`+upload.outcome+`"}`); count != 1 {
			t.Errorf("%v uploads are %s, want 1", count, upload.outcome)
		}
	}

	dbtest.Exec(t, pool, `
		select pg_terminate_backend(pid)
		  from pg_stat_activity
		 where query ilike 'listen%matview_refresh_channel%' and pid <> pg_backend_pid()`)
	dbtest.Eventually(t, dbtest.Deadline, "the listener is there again, and that is counted", func() bool {
		return mustMetric(t, base, "tinydevcrm_listener_reconnects_total") == 1 && mustMetric(t, base, "tinydevcrm_listener_up") == 1
	})
}

// The orchestrator's role, which is no superuser, sees everything that is counted.
func TestMetricsAsTheOrchestratorsRole(t *testing.T) {
	t.Parallel()
	server := dbtest.NewMigrated(t)
	super := open(t, server.URL, "postgres")
	dbtest.Exec(t, super, "create role runner login in role tinydevcrm_orchestrator")
	dbtest.Exec(t, super, "select tinydevcrm.create_user('ann', 'secret word')")
	_, stderr := background(t, dbtest.AsRole(server.URL, "runner"),
		"up", "--listen-addr", "localhost:0")
	base := address(t, stderr, "page")

	dbtest.Exec(t, super, "set session authorization ann")
	dbtest.Exec(t, super, "set search_path = ann")
	dbtest.Exec(t, super, "select tinydevcrm.create_matview('v', 'select 1 as one'), tinydevcrm.create_subscription('hers')")
	dbtest.Exec(t, super, "select tinydevcrm.refresh_matview('v')")
	if refreshed := mustMetric(t, base, `tinydevcrm_refreshes_total{outcome="refreshed"}`); refreshed != 1 {
		t.Errorf("%v refreshes of a user, want 1", refreshed)
	}
	if pending := mustMetric(t, base, `tinydevcrm_deliveries_pending{kind="worker"}`); pending != 1 {
		t.Errorf("%v deliveries wait for a user, want 1", pending)
	}
	if views := mustMetric(t, base, `tinydevcrm_matviews{state="not_scheduled"}`); views != 1 {
		t.Errorf("%v views of a user, want 1", views)
	}
	mustMetric(t, base, `tinydevcrm_imports_total{mode="create"}`)
	mustMetric(t, base, `tinydevcrm_schedules{state="late"}`)
	mustMetric(t, base, "tinydevcrm_upkeep_last_success_timestamp_seconds")
}

func TestMetricsAreNotForStrangers(t *testing.T) {
	t.Parallel()
	s := newSite(t, "ann")
	if status, body := s.get("", "/healthz"); status != http.StatusOK {
		t.Errorf("/healthz without a log-in: %d: %s", status, body)
	}
	// The page answers before the log has asked for its first events.
	dbtest.Eventually(t, dbtest.Deadline, "/readyz without a log-in is 200", func() bool {
		status, _ := s.get("", "/readyz")
		return status == http.StatusOK
	})
	if status, _ := s.get("", "/metrics"); status != http.StatusUnauthorized {
		t.Errorf("/metrics without a log-in: %d", status)
	}
	if status, body := s.get("ann", "/metrics"); status != http.StatusNotFound || strings.Contains(body, "tinydevcrm_") {
		t.Errorf("/metrics of a user: %d: %s", status, body)
	}
	request, err := http.NewRequestWithContext(t.Context(), "GET", s.url+"/readyz", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = "evil.example"
	if status, _ := s.answer(request); status != http.StatusMisdirectedRequest {
		t.Errorf("/readyz by another's name: %d", status)
	}
}

// notReady gets /readyz.
func notReady(t *testing.T, base string) (status int, missing map[string]string) {
	t.Helper()
	status, body := get(t, base+"/readyz")
	var answer struct {
		IsReady  bool              `json:"is_ready"`
		NotReady map[string]string `json:"not_ready"`
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	if answer.IsReady != (status == http.StatusOK) {
		t.Errorf("%d: %s", status, body)
	}
	return status, answer.NotReady
}

func TestReadyFollowsTheServer(t *testing.T) {
	t.Parallel()
	server := dbtest.NewServer(t)
	_, stderr := background(t, server.URL, "up", "--listen-addr", "localhost:0")
	base := address(t, stderr, "page")
	isReady := func() bool { status, _ := notReady(t, base); return status == http.StatusOK }
	dbtest.Eventually(t, dbtest.Deadline, "it is ready", isReady)

	server.Stop()
	dbtest.Eventually(t, dbtest.Deadline, "all is missed", func() bool {
		status, missing := notReady(t, base)
		return status == http.StatusServiceUnavailable && len(missing) == 4 && missing["database"] != "" &&
			missing["listener"] != "" && missing["log"] != "" && missing["webhook"] != ""
	})
	if status, _ := get(t, base+"/healthz"); status != http.StatusOK {
		t.Errorf("/healthz without a server: %d", status)
	}
	if up := mustMetric(t, base, "tinydevcrm_up"); up != 0 {
		t.Errorf("tinydevcrm_up without a server: %v", up)
	}
	server.Start()
	dbtest.Eventually(t, dbtest.Deadline, "it is ready again", isReady)
	if up := mustMetric(t, base, "tinydevcrm_up"); up != 1 {
		t.Errorf("tinydevcrm_up with a server: %v", up)
	}

	super := open(t, server.URL, "postgres")
	dbtest.Exec(t, super, "update public.schema_migrations set version = version - 1")
	if _, missing := notReady(t, base); !strings.Contains(missing["schema"], "is at version") {
		t.Errorf("with an older schema it misses %v", missing)
	}
	dbtest.Exec(t, super, "update public.schema_migrations set version = version + 1")
	dbtest.Exec(t, super, "alter table public.schema_migrations rename to elsewhere")
	if _, missing := notReady(t, base); missing["schema"] != "is not there" {
		t.Errorf("without a schema it misses %v", missing)
	}
	dbtest.Exec(t, super, "alter table public.elsewhere rename to schema_migrations")
}

// stall stops the server's processes until the test ends or resume is called.
func stall(t *testing.T, pool *sql.DB) (resume func()) {
	t.Helper()
	pids := append(
		dbtest.Column[int](t, pool, "select split_part(pg_read_file('postmaster.pid'), e'\\n', 1)::integer"),
		dbtest.Column[int](t, pool, "select pid from pg_stat_activity where backend_type = 'client backend'")...)
	signal := func(signal syscall.Signal) {
		for _, pid := range pids {
			// A process that has ended meanwhile does not stall.
			_ = syscall.Kill(pid, signal)
		}
	}
	resume = sync.OnceFunc(func() { signal(syscall.SIGCONT) })
	t.Cleanup(resume)
	signal(syscall.SIGSTOP)
	return resume
}

// A server accepts connections but answers nothing, like one without memory or disk space. Every request still
// gets an answer in time, and no requests pile up.
func TestAStalledServerHoldsNobody(t *testing.T) {
	dbtest.SameOnEveryServer(t)
	server := dbtest.NewServer(t)
	_, stderr := background(t, server.URL, "up", "--listen-addr", "localhost:0")
	base := address(t, stderr, "page")
	pool, err := db.Open(t.Context(), server.URL, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	dbtest.Eventually(t, dbtest.Deadline, "it is ready", func() bool { status, _ := notReady(t, base); return status == http.StatusOK })
	const clients = "select count(*) from pg_stat_activity where backend_type = 'client backend'"
	before := dbtest.Value[int](t, pool, clients)
	resume := stall(t, pool)

	begun := time.Now()
	var group sync.WaitGroup
	for range 40 {
		group.Go(func() {
			if status, missing := notReady(t, base); status != http.StatusServiceUnavailable || missing["database"] == "" {
				t.Errorf("/readyz of a stalled server: %d, %v", status, missing)
			}
		})
	}
	for range 4 {
		group.Go(func() {
			if up := mustMetric(t, base, "tinydevcrm_up"); up != 0 {
				t.Errorf("tinydevcrm_up of a stalled server: %v", up)
			}
		})
	}
	group.Wait()
	took := time.Since(begun)
	t.Logf("44 answers in %s", took)
	if took > 8*time.Second {
		t.Errorf("answers took %s", took)
	}
	if status, _ := get(t, base+"/healthz"); status != http.StatusOK {
		t.Errorf("/healthz of a stalled server: %d", status)
	}

	resume()
	dbtest.Eventually(t, dbtest.Deadline, "it is ready again", func() bool { status, _ := notReady(t, base); return status == http.StatusOK })
	after := dbtest.Value[int](t, pool, clients)
	t.Logf("%d connections before, %d after", before, after)
	// One more request for each of the two that are running.
	if after > before+2 {
		t.Errorf("%d connections, %d before", after, before)
	}
}
