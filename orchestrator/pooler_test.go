package main

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// Through a pooler in transaction mode no notification arrives, and each statement may run in another session. The
// program says so, looks for events instead, and does everything else.
func TestPoolerInTransactionMode(t *testing.T) {
	dbtest.SameOnEveryServer(t)
	t.Parallel()
	// lookAfter is the longest time from one look for events to the next.
	const lookAfter, watched, mostLines = 12 * time.Second, 30 * time.Second, 20
	super, server := newServer(t)
	pooled := server.Pooler()
	shuffle(t, pooled)
	if _, stderr, err := command(t, pooled, "", "migrate", "up"); err == nil || !strings.Contains(stderr, "a session of their own") {
		t.Errorf("migrate up: %v %s", err, stderr)
	}
	r, _ := newWebhook(t, super, "w", always(http.StatusOK))

	began := time.Now()
	stdout, stderr := background(t, pooled, upWithWebhooks...)
	page := &site{t: t, url: pageOf(t, stderr), super: super}
	dbtest.Eventually(t, dbtest.Deadline, "the program says that nothing arrives", func() bool {
		return strings.Contains(stderr.String(), "notifications do not arrive")
	})
	checkDeafness(t, page)

	usePooledPage(t, page, stderr)

	names := page.follow(t.Context(), "")
	id := refresh(t, super)
	dbtest.Eventually(t, lookAfter, "the event is posted", func() bool { return r.accepted()[id] >= 1 })
	dbtest.Eventually(t, lookAfter, "the event is in the log", func() bool { return hasEvent(stdout.events(t), id) })
	select {
	case <-names:
	case <-time.After(lookAfter):
		t.Error("the open page does not show the event")
	}
	// Where pg_cron has no seconds, the loop begins at the full minute.
	dbtest.Eventually(t, 90*time.Second, "the schedule runs", func() bool {
		for _, event := range stdout.events(t) {
			if event.ScheduleID != 0 {
				return true
			}
		}
		return false
	})
	if rest := watched - time.Since(began); rest > 0 {
		time.Sleep(rest)
	}
	if lines := strings.Count(stderr.String(), "\n"); lines >= mostLines {
		t.Errorf("%d log lines, want fewer than %d:\n%s", lines, mostLines, stderr)
	}
	for _, bad := range []string{"26000", "42P05", "does not exist"} {
		if strings.Contains(stderr.String(), bad) {
			t.Errorf("the log has %s:\n%s", bad, stderr)
		}
	}
}

// shuffle keeps other clients of the pooler busy until the test ends, so that statements change their sessions.
func shuffle(t *testing.T, pooled string) {
	t.Helper()
	pool, err := db.Open(t.Context(), pooled, 4)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for ctx.Err() == nil {
				if _, err := pool.ExecContext(ctx, "select pg_sleep($1)", 0.005); err != nil && ctx.Err() == nil {
					t.Errorf("another client of the pooler: %v", err)
					return
				}
			}
		})
	}
	t.Cleanup(func() {
		cancel()
		group.Wait()
		pool.Close()
	})
}

// usePooledPage uploads, creates a view, schedules it and downloads its rows.
func usePooledPage(t *testing.T, page *site, stderr *output) {
	t.Helper()
	if status, body := page.upload("", "", "n\n1\n2\n"); status != http.StatusCreated {
		t.Fatalf("upload: %d %s\n%s", status, body, stderr)
	}
	for _, post := range [][]string{
		{"/matviews", "name", "pooled", "query", "select * from numbers", "notify_when", "always"},
		{"/matviews/schedule", "relation", "pooled", "schedule", "5 seconds"},
	} {
		if status, body := page.post("", post[0], post[1:]...); status >= 300 {
			t.Fatalf("%v: %d %s", post, status, body)
		}
	}
	if status, body := page.get("", "/"); status != http.StatusOK || !strings.Contains(body, "/views/public.pooled") {
		t.Errorf("the page: %d, lacks the view", status)
	}
	for range 10 {
		if status, body := page.get("", "/matviews/pooled.csv"); status != http.StatusOK || body != "n\r\n1\r\n2\r\n" {
			t.Errorf("the rows: %d %s", status, body)
		}
	}
}

func checkDeafness(t *testing.T, page *site) {
	t.Helper()
	status, body := page.get("", "/readyz")
	var answer struct {
		IsReady  bool              `json:"is_ready"`
		Degraded map[string]string `json:"degraded"`
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		t.Fatal(err)
	}
	if status != http.StatusOK || !answer.IsReady || !strings.Contains(answer.Degraded["listener"], "no notifications") {
		t.Errorf("/readyz answers %d %s", status, body)
	}
	if _, metrics := page.get("", "/metrics"); !strings.Contains(metrics, "\ntinydevcrm_listener_deaf 1\n") {
		t.Error("/metrics does not say so")
	}
	dbtest.Eventually(t, dbtest.Deadline, "check_installation() says so", func() bool {
		return dbtest.Value[int](t, page.super, `
			select count(*)
			  from tinydevcrm.check_installation()
			 where not is_ok
			   and finding like 'notifications reach%' and hint like '%session mode%'`) == 1
	})
}

func hasEvent(events []eventLine, id int64) bool {
	for _, event := range events {
		if event.EventID == id {
			return true
		}
	}
	return false
}
