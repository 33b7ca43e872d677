//go:build faults

package faults

import (
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// newCut starts a program that reaches its server through a proxy. The test's own pool does not use the proxy.
func newCut(t *testing.T) (*dbtest.Proxy, *program, *sql.DB) {
	t.Helper()
	server, pool := newServer(t)
	between := dbtest.NewProxy(t, server.ListenOn("trust")+":5432")
	answers(t, pool)
	p := startUp(t, binary, between.URL())
	recovered(t, p, pool)
	return between, p, pool
}

// No data arrives and no connection ends, for longer than it takes to detect that.
func TestNetworkStalls(t *testing.T) {
	between, p, pool := newCut(t)
	between.Stall()
	start := time.Now()
	id := refresh(t, pool)
	pages := make(chan answer, 1)
	go func() { pages <- p.get("/matviews") }()
	page := <-pages
	if page.status != 503 && page.status != 504 {
		t.Errorf("the page is %s", page)
	}
	found := make(map[string]time.Duration)
	for _, word := range []string{"cannot receive events", "lost the listening connection"} {
		dbtest.Eventually(t, 90*time.Second, word, func() bool { return strings.Contains(p.stderr.String(), word) })
		found[word] = time.Since(start)
	}
	between.Flow()
	flows := time.Now()
	dbtest.Eventually(t, time.Minute, "the event of meanwhile is logged", func() bool { return p.logged()[id] == 1 })
	arrived := time.Since(flows)
	took := recovered(t, p, pool)
	report(t, "network stalls", fmt.Sprintf("log: found out after %s by delivery, %s by the listener; page: %s after %s",
		seconds(found["cannot receive events"]), seconds(found["lost the listening connection"]), page, seconds(page.took)),
		"the event of meanwhile logged %s after the stall, page and events back in %s; %s", seconds(arrived), seconds(took), allLogged(t, pool, p))
}

// Only the listening connection stalls, like one whose state a firewall has lost. Events are still delivered.
func TestListeningConnectionIsForgotten(t *testing.T) {
	between, p, pool := newCut(t)
	between.Forget()
	// New connections, such as some of the page and the log, pass.
	start := time.Now()
	id := refresh(t, pool)
	dbtest.Eventually(t, 90*time.Second, "an event is logged without the listener", func() bool { return p.logged()[id] == 1 })
	arrived := time.Since(start)
	dbtest.Eventually(t, 90*time.Second, "it listens again", func() bool { return strings.Contains(p.stderr.String(), "listening again") })
	again := time.Since(start)
	first := p.get("/matviews")
	took := recovered(t, p, pool)
	report(t, "connections forgotten by a firewall", fmt.Sprintf("event logged after %s; page first %s after %s", seconds(arrived), first, seconds(first.took)),
		"listening again after %s; then page and events in %s; %s", seconds(again), seconds(took), allLogged(t, pool, p))
}

func TestProgramEndsWhileTheNetworkStalls(t *testing.T) {
	between, p, pool := newCut(t)
	between.Stall()
	id := refresh(t, pool)
	took, err := p.terminate()
	if took > 20*time.Second {
		t.Errorf("it ended after %s", took)
	}
	between.Flow()
	p = startUp(t, binary, between.URL())
	dbtest.Eventually(t, time.Minute, "the event of meanwhile is logged", func() bool { return p.logged()[id] == 1 })
	report(t, "asked to end while the network stalls", fmt.Sprintf("it ends in %s, with %v", seconds(took), err),
		"started again: the event of meanwhile is logged")
}

func TestNetworkBreaksInAnUpload(t *testing.T) {
	between, p, pool := newCut(t)
	for _, test := range []struct {
		name   string
		happen func()
	}{
		{"reset", between.Reset},
		{"half-closed", between.HalfClose},
	} {
		file := newFeed(uploadRows)
		seen := make(chan answer, 1)
		go func() { seen <- p.upload("big", file) }()
		inCopy(t, pool)
		test.happen()
		close(file.proceed)
		sees := <-seen
		sees.says(t, 503)
		left := leftovers(t, pool, "big")
		took := recovered(t, p, pool)
		again := p.upload("big", wholeFeed(uploadRows))
		again.says(t, 201)
		report(t, "connection "+test.name+" in an upload", sees, "%s; page and events back in %s; the same upload: %d, %d rows; %s",
			left, seconds(took), again.status, count(t, pool, "big"), allLogged(t, pool, p))
		dbtest.Exec(t, pool, "drop table big")
		dbtest.Exec(t, pool, "delete from tinydevcrm.imports")
	}
}

// A stall in an upload that is shorter than all timeouts only delays it.
func TestNetworkStallsInAnUpload(t *testing.T) {
	between, p, pool := newCut(t)
	file := newFeed(uploadRows)
	seen := make(chan answer, 1)
	go func() { seen <- p.upload("big", file) }()
	inCopy(t, pool)
	between.Stall()
	close(file.proceed)
	start := time.Now()
	dbtest.Eventually(t, dbtest.Deadline, "ten seconds are over", func() bool { return time.Since(start) > 10*time.Second })
	between.Flow()
	sees := <-seen
	sees.says(t, 201)
	if rows := count(t, pool, "big"); rows != uploadRows {
		t.Errorf("%d rows, want %d", rows, uploadRows)
	}
	report(t, "10 s of stall in an upload", sees.status, "%d rows; %s", count(t, pool, "big"), allLogged(t, pool, p))
}

// 50 ms in each direction, as from another continent.
func TestSlowNetwork(t *testing.T) {
	between, p, pool := newCut(t)
	between.Slow(50 * time.Millisecond)
	id := refresh(t, pool)
	start := time.Now()
	dbtest.Eventually(t, time.Minute, "an event is logged", func() bool { return p.logged()[id] == 1 })
	arrived := time.Since(start)
	page := p.get("/")
	page.says(t, 200)
	upload := p.upload("small", wholeFeed(1000))
	upload.says(t, 201)
	report(t, "100 ms there and back", fmt.Sprintf("page: %d in %s; upload of 1000 rows: %d in %s", page.status, seconds(page.took), upload.status, seconds(upload.took)),
		"an event logged in %s; %s", seconds(arrived), allLogged(t, pool, p))
}
