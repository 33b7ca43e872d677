package main

import (
	"cmp"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/mail/mailtest"
)

// withMail is an environment with an SMTP_URL.
func withMail(databaseURL, smtpURL string) func(string) string {
	others := environment(databaseURL)
	return func(name string) string {
		return cmp.Or(map[string]string{"SMTP_URL": smtpURL}[name], others(name))
	}
}

// mailsTo are those that an address has got.
func mailsTo(smtp *mailtest.Server, address string) []mailtest.Mail {
	return slices.DeleteFunc(smtp.Mails(), func(m mailtest.Mail) bool { return m.To != address })
}

// TestEmails has e-mails that wait for a server, one that a recipient's server first refuses, several within a minute,
// and a recipient who unsubscribes.
func TestEmails(t *testing.T) {
	dbtest.SameOnEveryServer(t)
	t.Parallel()
	pool, server := newServer(t)
	dbtest.Exec(t, pool, "update tinydevcrm.settings set mail_gathering = '2 seconds'")
	mustCommand(t, server.URL, "email", "create", "mail", "a@example.com", "b@example.com", "--matview", "v")

	_, _, end := begin(t, server.URL, "up", "--listen-addr", "localhost:0")
	refresh(t, pool)
	awaitStatus(t, pool, "mail", "no mail server")
	if _, stderr, err := command(t, server.URL, "", "status"); err == nil || !strings.Contains(stderr, "no mail server") {
		t.Errorf("status does not mention it: %v, %s", err, stderr)
	}
	end()

	smtp := mailtest.Start(t, nil, false)
	var refusals atomic.Int64
	smtp.Rcpt = func(to string) error {
		if to == "b@example.com" && refusals.Add(1) == 1 {
			return mailtest.Refuse(451, "greylisted")
		}
		return nil
	}
	_, stderr, end := beginWith(t, withMail(server.URL, "smtp://"+smtp.Addr+"?from=crm@example.com"), "up", "--listen-addr", "localhost:0")
	defer end()
	dbtest.Eventually(t, dbtest.Deadline, "what has waited is sent, to the second recipient at the second attempt", func() bool {
		return len(mailsTo(smtp, "b@example.com")) == 1
	})
	if strings.Contains(stderr.String(), "e-mails have a mail server") {
		t.Errorf("the program warns although it has a mail server: %s", stderr)
	}
	first := mailsTo(smtp, "a@example.com")
	if len(first) != 1 || first[0].Header.Get("Message-Id") != mailsTo(smtp, "b@example.com")[0].Header.Get("Message-Id") {
		t.Fatalf("the first recipient has got %d", len(first))
	}
	awaitStatus(t, pool, "mail", "ok")

	// In one transaction, so that all of them are there when the first is.
	dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('v') from generate_series(1, 3)")
	dbtest.Eventually(t, dbtest.Deadline, "the next one is sent", func() bool { return len(mailsTo(smtp, "b@example.com")) == 2 })
	if subject := mailsTo(smtp, "a@example.com")[1].Header.Get("Subject"); subject != "3 notifications: v (3)" {
		t.Errorf("three events come as %q", subject)
	}

	link := unsubscribeLink(t, first[0], address(t, stderr, "page"))
	if status, body := get(t, link); status != http.StatusOK || !strings.Contains(body, "<button>") {
		t.Errorf("%d %s", status, body)
	}
	if got := dbtest.Value[string](t, pool, "select url from tinydevcrm.webhooks"); got != "mailto:a@example.com,b@example.com" {
		t.Errorf("a GET changes the recipients to %s", got)
	}
	// As mail programs do it by RFC 8058: without a cookie, an origin or a page that was read before.
	for _, want := range []int{http.StatusOK, http.StatusNotFound} {
		response, err := http.PostForm(link, url.Values{"List-Unsubscribe": {"One-Click"}})
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, response.Body)
		response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("the post gets %d, want %d", response.StatusCode, want)
		}
	}
	if status, _ := get(t, link); status != http.StatusNotFound {
		t.Errorf("the link shows %d after it has been used", status)
	}
	refresh(t, pool)
	dbtest.Eventually(t, dbtest.Deadline, "the other one gets the next", func() bool { return len(mailsTo(smtp, "b@example.com")) == 3 })
	if got := len(mailsTo(smtp, "a@example.com")); got != 2 {
		t.Errorf("who has unsubscribed has got %d", got)
	}
	if got := mustCommand(t, server.URL, "subscription", "test", "mail"); !strings.Contains(got, "sent to b@example.com") {
		t.Errorf("the test of the e-mail prints %q", got)
	}
	if mails := mailsTo(smtp, "b@example.com"); len(mails) != 4 || !strings.HasPrefix(mails[3].Header.Get("Subject"), "Test: v: ") {
		t.Errorf("the test does not arrive: %d mails", len(mails))
	}
}

// unsubscribeLink is the link of a mail, at the page's own address.
func unsubscribeLink(t *testing.T, m mailtest.Mail, page string) string {
	t.Helper()
	link := strings.Trim(m.Header.Get("List-Unsubscribe"), "<>")
	parsed, err := url.Parse(link)
	if err != nil || parsed.Path != "/unsubscribe" {
		t.Fatalf("the link is %q", link)
	}
	return strings.TrimRight(page, "/") + parsed.RequestURI()
}

// TestRefusedEmails has a recipient who does not exist, alone and beside another one.
func TestRefusedEmails(t *testing.T) {
	dbtest.SameOnEveryServer(t)
	t.Parallel()
	pool, server := newServer(t)
	smtp := mailtest.Start(t, nil, false)
	smtp.Rcpt = func(to string) error {
		if to == "nobody@example.com" {
			return mailtest.Refuse(550, "no such user")
		}
		return nil
	}
	mustCommand(t, server.URL, "email", "create", "both", "nobody@example.com", "a@example.com")
	mustCommand(t, server.URL, "email", "create", "alone", "nobody@example.com")
	beginWith(t, withMail(server.URL, "smtp://"+smtp.Addr+"?from=crm@example.com"), "up", "--listen-addr", "localhost:0")
	refresh(t, pool)
	latest := func(name string) string {
		return dbtest.Value[string](t, pool,
			"select concat_ws(' ', status, attempts, last_error) from tinydevcrm.latest_deliveries($1)", name)
	}
	var got string
	dbtest.Eventually(t, dbtest.Deadline, "the other one has got it", func() bool {
		got = latest("both")
		return got == "acknowledged 1 nobody@example.com: 550 5.1.1 no such user"
	})
	dbtest.Eventually(t, dbtest.Deadline, "the other subscription is parked at the first attempt", func() bool {
		got = latest("alone")
		return got == "parked 1 nobody@example.com: 550 5.1.1 no such user"
	})
	if mails := smtp.Mails(); len(mails) != 1 || mails[0].To != "a@example.com" {
		t.Errorf("%d mails", len(mails))
	}
}

// TestDigest has 120 events of three views while the program runs, and 120 while it does not: two messages.
func TestDigest(t *testing.T) {
	dbtest.SameOnEveryServer(t)
	t.Parallel()
	pool, server := newServer(t)
	createViews(t, pool, 3)
	counts := make(chan int, 10)
	endpoint := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var body struct {
			Data struct {
				EventCount int `json:"event_count"`
			} `json:"data"`
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Error(err)
		}
		counts <- body.Data.EventCount
	}))
	defer endpoint.Close()
	mustCommand(t, server.URL, "webhook", "create", "hook", dbtest.ByName(endpoint.URL))
	if got := mustCommand(t, server.URL, "subscription", "digest", "hook", "yearly"); !strings.Contains(got, "-01-01 00:00:00") {
		t.Errorf("the command prints %q", got)
	}
	notify := func() {
		for range 40 {
			dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview(('v' || i)::regclass) from generate_series(1, 3) as i")
		}
	}
	// Lets a year pass.
	pass := func() {
		dbtest.Exec(t, pool, "update tinydevcrm.deliveries set created_at = created_at - interval '1 year' where acknowledged_at is null")
		dbtest.Exec(t, pool, "update tinydevcrm.webhooks set next_post_at = next_post_at - interval '1 year'")
		dbtest.Exec(t, pool, "select tinydevcrm._notify(0)")
	}
	_, _, end := begin(t, server.URL, upWithWebhooks...)
	notify()
	for round := range 2 {
		if len(counts) > 0 {
			t.Errorf("something was posted before the time: %d", <-counts)
		}
		pass()
		dbtest.Eventually(t, dbtest.Deadline, "it is posted", func() bool { return len(counts) > 0 })
		if got := <-counts; got != 120 {
			t.Errorf("the digest has %d events, want 120", got)
		}
		dbtest.Eventually(t, dbtest.Deadline, "all are acknowledged", func() bool {
			return dbtest.Value[int64](t, pool, "select pending_count from tinydevcrm.subscription_status where subscription = 'hook'") == 0
		})
		if round == 0 {
			end()
			notify()
			begin(t, server.URL, upWithWebhooks...)
		}
	}
}

// TestBadMailServer has an SMTP_URL that cannot be read: the program says so, without the password, and does not start.
func TestBadMailServer(t *testing.T) {
	var stderr strings.Builder
	err := run(t.Context(), []string{"up"}, withMail("postgres://nowhere.invalid/", "smtp://user:secret@smtp.example.com"),
		strings.NewReader(""), io.Discard, &stderr)
	if err == nil || !strings.Contains(stderr.String(), "SMTP_URL cannot be used: it has no from") || strings.Contains(stderr.String(), "secret") {
		t.Errorf("%v: %s", err, &stderr)
	}
}
