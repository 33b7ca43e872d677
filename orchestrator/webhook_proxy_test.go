package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// With --webhook-proxy the variables of the environment name the proxy. net/http reads them once, so the program with
// one is in a process of its own.
func TestWebhookProxy(t *testing.T) {
	dbtest.SameOnEveryServer(t)
	const inner = "TINYDEVCRM_TEST_BEHIND_PROXY"
	if os.Getenv(inner) != "" {
		pool, server := newServer(t)
		dbtest.Exec(t, pool, "select tinydevcrm.create_webhook('w', 'http://1.1.1.1/in')")
		background(t, server.URL, "up", "--listen-addr", "localhost:0", "--webhook-proxy")
		refresh(t, pool)
		dbtest.Eventually(t, dbtest.Deadline, "the post is accepted", func() bool {
			return dbtest.Value[int](t, pool, `
				select count(acknowledged_at)
				  from tinydevcrm.deliveries
				 where subscription_id = (select id from tinydevcrm.subscriptions where name = 'w')`) == 1
		})
		return
	}
	var asked atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host == "1.1.1.1" && r.Header.Get("webhook-id") != "" {
			asked.Add(1)
		}
	}))
	defer proxy.Close()
	process := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestWebhookProxy$")
	process.Env = append(os.Environ(), inner+"=1", "HTTP_PROXY="+proxy.URL)
	if output, err := process.CombinedOutput(); err != nil || asked.Load() != 1 {
		t.Errorf("%v, the proxy was asked %d times, want once\n%s", err, asked.Load(), output)
	}
}
