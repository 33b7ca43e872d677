package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// A drop by cascade, in the session of another role, is posted to the webhook of the view. The webhook stays, and
// goes on when the view is made again.
func TestWebhookOfADroppedView(t *testing.T) {
	dbtest.SameOnEveryServer(t)
	t.Parallel()
	pool, server := newServer(t)
	for _, statement := range []string{
		"create role landlord login",
		"grant all on schema public to landlord",
		"create table orders as select 1 as n",
		"select tinydevcrm.create_matview('big', 'select n from orders', 'never')",
		"alter table orders owner to landlord",
	} {
		dbtest.Exec(t, pool, statement)
	}
	receiver := newReceiver(t, always(http.StatusOK))
	dbtest.Exec(t, pool, "select tinydevcrm.create_webhook('hook', $1, 'big')", receiver.url)
	dbtest.Exec(t, openPool(t, dbtest.AsRole(server.URL, "landlord")), "drop table orders cascade")

	if _, stderr, err := command(t, server.URL, "", "status"); err == nil || !strings.Contains(stderr, "hook is view dropped: 1 pending, 0 parked (public.big)") {
		t.Errorf("status: %v: %s", err, stderr)
	}
	stdout, _ := background(t, server.URL, upWithWebhooks...)
	dbtest.Eventually(t, dbtest.Deadline, "the post arrives", func() bool { return len(receiver.accepted()) == 1 })
	body := string(receiver.all()[0].body)
	for _, want := range []string{`"type" : "matview.dropped"`, `"matview" : "public.big"`, `"reason" : "landlord dropped it"`} {
		if !strings.Contains(body, want) {
			t.Errorf("the post lacks %s: %s", want, body)
		}
	}

	if list := mustCommand(t, server.URL, "matview", "dropped"); !strings.Contains(list, "public.big") || !strings.Contains(list, "landlord") {
		t.Errorf("the list of dropped views: %s", list)
	}
	if _, stderr, err := command(t, server.URL, "", "matview", "restore", "big"); err == nil || !strings.Contains(stderr, "orders") {
		t.Errorf("restored without its table: %v: %s", err, stderr)
	}
	dbtest.Exec(t, pool, "create table orders as select 1 as n")
	mustCommand(t, server.URL, "matview", "restore", "big")
	mustCommand(t, server.URL, "matview", "watch", "big", "--notify-when", "always")
	dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('big')")
	dbtest.Eventually(t, dbtest.Deadline, "the restored view is posted", func() bool { return len(receiver.accepted()) == 2 })

	// The log has what happens since its first start.
	mustCommand(t, server.URL, "matview", "drop", "big")
	dbtest.Eventually(t, dbtest.Deadline, "the log has the drop", func() bool {
		return strings.Contains(stdout.String(), `"outcome":"dropped"`) &&
			strings.Contains(stdout.String(), `"reason":"postgres dropped it"`)
	})
}
