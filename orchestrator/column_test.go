package main

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/mail/mailtest"
)

// TestEmailsToAColumn sends each owner their rows, with a mailbox that first refuses, a domain that is not allowed, and
// an owner who unsubscribes.
func TestEmailsToAColumn(t *testing.T) {
	dbtest.SameOnEveryServer(t)
	t.Parallel()
	pool, server := newServer(t)
	dbtest.Exec(t, pool, "create table orders (id integer primary key, owner_email text)")
	mustCommand(t, server.URL, "matview", "create", "late", "select * from orders", "--notify-when", "never")
	mustCommand(t, server.URL, "email", "create", "owners", "boss@example.com", "--matview", "late", "--notify-when", "rows_added",
		"--to-column", "owner_email", "--allow-domain", "x.example", "--allow-domain", "y.example")
	// The first one has nothing to compare with.
	dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('late')")
	if _, stderr, err := command(t, server.URL, "", "subscription", "digest", "owners", "hourly"); err == nil ||
		!strings.Contains(stderr, "a digest gathers what each_row and to_column deliver apart") {
		t.Errorf("a digest of it: %v, %s", err, stderr)
	}

	smtp := mailtest.Start(t, nil, false)
	var refusals atomic.Int64
	smtp.Rcpt = func(to string) error {
		if to == "a@x.example" && refusals.Add(1) == 1 {
			return mailtest.Refuse(451, "greylisted")
		}
		return nil
	}
	_, stderr, end := beginWith(t, withMail(server.URL, "smtp://"+smtp.Addr+"?from=crm@example.com"), "up", "--listen-addr", "localhost:0")
	defer end()

	add := func(id int, address string) string { return fmt.Sprintf("(%d, '%s')", id, address) }
	insert := func(rows ...string) {
		dbtest.Exec(t, pool, "insert into orders values "+strings.Join(rows, ", "))
		dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('late')")
	}
	// await waits until nothing is pending, and compares to whom the mails went.
	await := func(want ...string) []mailtest.Mail {
		t.Helper()
		dbtest.Eventually(t, dbtest.Deadline, "all is sent", func() bool {
			dbtest.Exec(t, pool, "select tinydevcrm.retry_subscription('owners')")
			return dbtest.Value[int64](t, pool, "select count(*) from tinydevcrm.deliveries where acknowledged_at is null") == 0
		})
		mails := smtp.Mails()
		var got []string
		for _, m := range mails {
			got = append(got, m.To+" "+m.Header.Get("Subject"))
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Fatalf("the mails are %q, want %q", got, want)
		}
		return mails
	}

	insert(add(1, "a@x.example"), add(2, "b@y.example"), add(3, "a@x.example"), add(4, "c@evil.example"))
	first := []string{"a@x.example late: 2 rows added", "b@y.example late: 1 row added", "boss@example.com late: 1 row added"}
	mails := await(first...)

	link := unsubscribeLink(t, mails[slices.IndexFunc(mails, func(m mailtest.Mail) bool { return m.To == "a@x.example" })], address(t, stderr, "page"))
	response, err := http.PostForm(link, url.Values{"List-Unsubscribe": {"One-Click"}})
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Fatalf("the link of an owner gets %d", response.StatusCode)
	}
	insert(add(5, "A@x.example"), add(6, "b@y.example"))
	await("a@x.example late: 2 rows added", "b@y.example late: 1 row added", "b@y.example late: 1 row added",
		"boss@example.com late: 1 row added", "boss@example.com late: 1 row added")
}
