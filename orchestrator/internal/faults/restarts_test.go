//go:build faults

package faults

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

func TestOrderlyRestart(t *testing.T) {
	server, pool := newServer(t)
	p := startUp(t, binary, server.URL)
	bindir := dbtest.Value[string](t, pool, "select setting from pg_config where name = 'BINDIR'")
	refresh(t, pool)
	looks := p.look()
	asOwner(t, server, exec.Command(filepath.Join(bindir, "pg_ctl"), "-D", server.Folder(), "-m", "fast", "-w", "restart"))
	answers(t, pool)
	took := recovered(t, p, pool)
	seen := looks()
	report(t, "orderly restart", seen, "page and events back %s after the server; %s", seconds(took), allLogged(t, pool, p))
}

func TestServerAwayForTwentySeconds(t *testing.T) {
	const away = 20 * time.Second
	server, pool := newServer(t)
	p := startUp(t, binary, server.URL)
	refresh(t, pool)
	looks := p.look()
	server.Stop()
	start := time.Now()
	page := p.get("/")
	page.says(t, 503, "does not answer")
	command := run(t, server.URL, wholeFeed(10), nil, "upload", "-", "--table", "small")
	command.says(t, 1, "does not answer", "scripts/db start")
	dbtest.Eventually(t, time.Minute, "it has been away", func() bool { return time.Since(start) > away })
	server.Start()
	back := time.Now()
	answers(t, pool)
	// Before the program has noticed, or after: it must handle both.
	for range 5 {
		refresh(t, pool)
	}
	took := recovered(t, p, pool)
	dbtest.Eventually(t, time.Minute, "it listens again", func() bool { return strings.Contains(p.stderr.String(), "listening again") })
	seen := looks()
	if !strings.Contains(seen, "503") {
		t.Errorf("the page was %s", seen)
	}
	report(t, "server away for 20 s", fmt.Sprintf("page: %s; upload command: exit %s", seen, command),
		"page and events back in %s, listening again in %s, by itself; %s", seconds(took), seconds(time.Since(back)), allLogged(t, pool, p))
}

// look requests the page over and over, and returns at the end which answers there were: for each, how often,
// and the first of its kind in full.
func (p *program) look() (end func() string) {
	stop, ended := make(chan struct{}), make(chan string, 1)
	go func() {
		var order []string
		counts, first := make(map[string]int), make(map[string]string)
		for {
			got := p.get("/matviews")
			kind := fmt.Sprint(got.status)
			if counts[kind] == 0 {
				order = append(order, kind)
				first[kind] = got.text
			}
			counts[kind]++
			select {
			case <-stop:
				var words []string
				for _, kind := range order {
					text := fmt.Sprintf("%d × %s", counts[kind], kind)
					if kind != "200" {
						text += " " + first[kind]
					}
					words = append(words, text)
				}
				ended <- strings.Join(words, ", ")
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
	return func() string {
		close(stop)
		return <-ended
	}
}
