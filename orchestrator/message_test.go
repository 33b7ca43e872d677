package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/message"
)

// answering is a receiver's answer with a body.
func answering(status int, body string) answer {
	return func(w http.ResponseWriter, _ *http.Request, _ int) int {
		w.WriteHeader(status)
		fmt.Fprint(w, body)
		return 0
	}
}

// A test is sent at once, whatever has happened to the subscription, and nothing follows from its outcome.
func TestATestOfASubscription(t *testing.T) {
	t.Parallel()
	pool, server := newServer(t)
	createViews(t, pool, 1)
	receiver, secret := newWebhook(t, pool, "hook", answering(http.StatusOK, "thank \x1b[31myou"))
	newWebhook(t, pool, "refusing", answering(http.StatusForbidden, "not \x00 you"))
	for _, name := range []string{"hook", "refusing"} {
		dbtest.Exec(t, pool, "select tinydevcrm.pause_subscription($1)", name)
	}
	dbtest.Exec(t, pool, `
		update tinydevcrm.webhooks
		   set failure_count = 5,
		       probe_after = '1 day',
		       rate_limited_for = '1 day'`)
	before := dbtest.Value[string](t, pool, "select json_agg(webhooks)::text from tinydevcrm.webhooks")
	events := dbtest.Value[int64](t, pool, "select count(*) from tinydevcrm.matview_refresh_events")
	background(t, server.URL, upWithWebhooks...)

	stdout, stderr, err := command(t, server.URL, "", "subscription", "test", "hook")
	if err != nil || !strings.Contains(stdout, "accepted after ") || !strings.Contains(stdout, " with status 200\n  answer: thank  [31myou\n") {
		t.Errorf("%v: %s%s", err, stdout, stderr)
	}
	got := receiver.all()
	if len(got) != 1 || !strings.HasPrefix(got[0].id, "test_") || !isSignedBy(t, got[0], secret) ||
		!strings.Contains(string(got[0].body), `"type" : "test"`) || !strings.Contains(string(got[0].body), "This is a test") {
		t.Errorf("it got %d requests: %s", len(got), got[0].body)
	}

	stdout, _, err = command(t, server.URL, "", "subscription", "test", "refusing")
	if exitCode(err) != exitFailure || !strings.Contains(stdout, "refused after ") || !strings.Contains(stdout, "403 Forbidden: not you") {
		t.Errorf("%v: %s", err, stdout)
	}

	if after := dbtest.Value[string](t, pool, "select json_agg(webhooks)::text from tinydevcrm.webhooks"); after != before {
		t.Errorf("a test has changed the endpoints:\n%s\n%s", before, after)
	}
	if after := dbtest.Value[int64](t, pool, "select count(*) from tinydevcrm.matview_refresh_events"); after != events {
		t.Errorf("%d events, want %d", after, events)
	}
	if _, stderr, err := command(t, server.URL, "", "subscription", "test", "nothing"); exitCode(err) != exitFailure || !strings.Contains(stderr, "no subscription") {
		t.Errorf("%v: %s", err, stderr)
	}
}

// An endpoint that hangs delays only the tests of its owner, and a message in words carries templates and the link.
func TestAMessageHasTemplatesAndALink(t *testing.T) {
	t.Parallel()
	pool, server := newServer(t)
	createViews(t, pool, 1)
	receiver := newReceiver(t, always(http.StatusOK))
	dbtest.Exec(t, pool, "select tinydevcrm.create_webhook('push', $1, format => 'ntfy')", receiver.url+"/topic")
	background(t, server.URL, append(upWithWebhooks, "--public-url", "https://crm.example.com/in")...)

	stdout, stderr, err := command(t, server.URL, "", "subscription", "alter", "push",
		"--title", "{{view}} has {{row_count}}", "--message", "{{#rows}}{{.}}{{/rows}} {{link}}")
	if err != nil || !strings.Contains(stdout, `"push" has its new templates`) {
		t.Fatalf("%v: %s%s", err, stdout, stderr)
	}
	event := dbtest.Value[int64](t, pool, "select id from tinydevcrm.refresh_matview('v1')")
	dbtest.Eventually(t, dbtest.Deadline, "the message arrives", func() bool { return len(receiver.all()) == 1 })
	link := fmt.Sprintf("https://crm.example.com/in/views/public.v1?event=%d", event)
	for _, want := range []string{`"title":"public.v1 has 1"`, link + `"`, "one: 1 "} {
		if body := string(receiver.all()[0].body); !strings.Contains(body, want) {
			t.Errorf("%s lacks %q", body, want)
		}
	}

	stdout, stderr, err = command(t, server.URL, "", "subscription", "preview", "push", "--public-url", "https://crm.example.com/in",
		"--message", "{{#rows}}{{.}}{{/rows}} {{link}}", "--default")
	if want := fmt.Sprintf("v1: 1 row\n\none: 1 %s\n\n%[1]s\n", link); err != nil || stdout != want {
		t.Errorf("%v: %q, want %q%s", err, stdout, want, stderr)
	}

	begin := time.Now()
	if stdout, stderr, err = command(t, server.URL, "", "subscription", "test", "push"); err != nil {
		t.Errorf("%v: %s%s", err, stdout, stderr)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("the test took %v: nothing has woken the orchestrator", took)
	}
	if body := string(receiver.all()[1].body); !strings.Contains(body, `"title":"Test: public.v1 has 1"`) || !strings.Contains(body, "This is a test: nothing has happened.") {
		t.Errorf("the test is not marked: %s", body)
	}
}

// What the database accepts as a template can be rendered. Templates are made of pieces, so that many are odd and many
// are sound.
func TestAcceptedTemplatesAreRendered(t *testing.T) {
	dbtest.SameOnEveryServer(t)
	t.Parallel()
	pool, _ := newServer(t)
	pieces := []string{"{{", "}}", "{{{", "}}}", "{", "}", "{{#a}}", "{{/a}}", "{{^a}}", "{{# b }}", "{{/b}}", "{{a}}", "{{&a}}", "{{{a}}}",
		"{{!", "#", "/", "&", "^", ">", "=", "a", " ", "\n", "\r\n", "\t", "é", ".", "{{a.b}}", "{{.}}", "{{", "}}"}
	random := rand.New(rand.NewPCG(1, 2))
	templates := make([]string, 20_000)
	for i := range templates {
		for range 1 + random.IntN(7) {
			templates[i] += pieces[random.IntN(len(pieces))]
		}
	}
	dbtest.Exec(t, pool, `
		create function accepts(template text) returns boolean language plpgsql as $$
		begin
		    perform tinydevcrm._check_template(template, 'title');
		    return true;
		exception when sqlstate 'TD007' then
		    return false;
		end $$`)
	var accepted []string
	if err := pool.QueryRowContext(t.Context(), "select array_agg(template) from unnest($1::text[]) as template where accepts(template)",
		pq.Array(templates)).Scan(pq.Array(&accepted)); err != nil {
		t.Fatal(err)
	}
	if len(accepted) < len(templates)/20 || len(accepted) > len(templates)*19/20 {
		t.Fatalf("%d of %d templates are accepted: they test nothing", len(accepted), len(templates))
	}
	for _, template := range accepted {
		notification, err := json.Marshal(map[string]any{"title": "default", "templates": map[string]string{"title": template, "message": template}})
		if err != nil {
			t.Fatal(err)
		}
		if m, err := message.Parse(notification, ""); err != nil || m.Note != "" {
			t.Errorf("%q: %v %s", template, err, m.Note)
		}
	}
}

func TestPublicURLs(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"crm.example.com", "ftp://x.example", "https://", "https://ann:pw@x.example", "https://x.example/?a=b", "https://x.example/#a", "https://%zz"} {
		p := program{publicURL: bad}
		if err := p.checkPublicURL(); exitCode(err) != exitUsage {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for address, want := range map[string]string{
		"127.0.0.1:5000": "http://localhost:5000",
		"[::]:80":        "http://localhost:80",
		":81":            "http://localhost:81",
		"10.1.2.3:5000":  "http://10.1.2.3:5000",
		"[fd00::1]:5000": "http://[fd00::1]:5000",
	} {
		if got := new(program).linkTo(address); got != want {
			t.Errorf("%q: %q, want %q", address, got, want)
		}
	}
	p := program{publicURL: "https://crm.example.com/in", hosts: []string{"other.example.com"}}
	if err := p.checkPublicURL(); err != nil || p.linkTo("x:1") != p.publicURL {
		t.Errorf("%v %q", err, p.linkTo("x:1"))
	}
	if got := fmt.Sprint(p.pageHosts()); got != "[other.example.com crm.example.com]" {
		t.Errorf("got %s", got)
	}
}
