package main

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/login"
)

const secret = "secret word 1"

// A site is a page with users, on a server that asks them for their passwords.
type site struct {
	t      *testing.T
	url    string
	super  *sql.DB
	stderr *output
}

// newSite makes the users and starts the page as the orchestrator's role.
func newSite(t *testing.T, users ...string) *site {
	t.Helper()
	server := dbtest.NewServer(t)
	mustCommand(t, server.URL, "migrate", "up")
	super := open(t, server.URL, "postgres")
	for _, user := range users {
		dbtest.Exec(t, super, "select tinydevcrm.create_user($1, $2)", user, secret)
	}
	dbtest.Exec(t, super, "create role runner login in role tinydevcrm_orchestrator")
	address := listenWithPasswords(t, server, super)

	runner := strings.Replace(server.URL, "user=postgres", "user=runner", 1)
	if _, stderr, err := command(t, runner, "", "up", "--listen-addr", "localhost:0", "--auth"); err == nil ||
		!strings.Contains(stderr, "without a password") || !strings.Contains(stderr, "--auth-url") {
		t.Errorf("a server that trusts everyone is taken: %v, %s", err, stderr)
	}
	_, stderr := background(t, runner, "up", "--listen-addr", "localhost:0",
		"--auth", "--auth-url", "postgres://"+address+":5432/tinydevcrm?sslmode=disable")
	dbtest.Eventually(t, dbtest.Deadline, "it is ready", func() bool { return strings.Contains(stderr.String(), `"page":"`) })
	_, page, _ := strings.Cut(stderr.String(), `"page":"`)
	page, _, _ = strings.Cut(page, `"`)
	return &site{t: t, url: strings.TrimSuffix(page, "/"), super: super, stderr: stderr}
}

// listenWithPasswords has a server listen on a loopback address of its own, and ask for passwords there.
func listenWithPasswords(t *testing.T, server *dbtest.Server, super *sql.DB) string {
	t.Helper()
	address := fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(254), rand.IntN(255), 2+rand.IntN(250))
	file, err := os.OpenFile(dbtest.Value[string](t, super, "show hba_file"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := fmt.Fprintln(file, "host tinydevcrm all 127.0.0.0/8 scram-sha-256"); err != nil {
		t.Fatal(err)
	}
	dbtest.Exec(t, super, "alter system set listen_addresses = '"+address+"'")
	server.Stop()
	server.Start()
	return address
}

// send sends a request as a user, and gives the status and the body.
func (s *site) send(user, password, method, path, contentType, body string) (int, string) {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if user != "" {
		request.SetBasicAuth(user, password)
	}
	request.Header.Set("Content-Type", contentType)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return response.StatusCode, string(content)
}

func (s *site) get(user, path string) (int, string) { return s.send(user, secret, "GET", path, "", "") }

func (s *site) post(user, path string, fields ...string) (int, string) {
	form := url.Values{}
	for i := 0; i < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	return s.send(user, secret, "POST", path, "application/x-www-form-urlencoded", form.Encode())
}

func (s *site) upload(user, query, content string) (int, string) {
	return s.send(user, secret, "POST", "/upload-file"+query, "multipart/form-data; boundary=x",
		"--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"numbers.csv\"\r\n\r\n"+content+"\r\n--x--\r\n")
}

// follow opens a user's event stream, and gives the names of the views whose events come.
func (s *site) follow(ctx context.Context, user string) <-chan string {
	s.t.Helper()
	request, err := http.NewRequestWithContext(ctx, "GET", s.url+"/events/stream", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	request.SetBasicAuth(user, secret)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	if response.StatusCode != http.StatusOK {
		s.t.Fatalf("the stream of %s: %s", user, response.Status)
	}
	names := make(chan string, 100)
	go func() {
		defer response.Body.Close()
		lines := bufio.NewScanner(response.Body)
		for lines.Scan() {
			if _, rest, ok := strings.Cut(lines.Text(), `"matview" : "`); ok {
				name, _, _ := strings.Cut(rest, `"`)
				names <- name
			}
		}
	}()
	return names
}

func TestUsersLogIn(t *testing.T) {
	s := newSite(t, "ann", "eve")

	for _, test := range []struct {
		name, user, password string
		status               int
	}{
		{"nobody", "", "", 401},
		{"a wrong password", "ann", "secret word 2", 401},
		{"another's password is no help", "postgres", secret, 401},
		{"a role that is not there", "mallory", secret, 401},
		{"the right one", "ann", secret, 200},
	} {
		if status, body := s.send(test.user, test.password, "GET", "/matviews", "", ""); status != test.status {
			t.Errorf("%s: status %d, want %d: %s", test.name, status, test.status, body)
		}
	}

	if status, body := s.upload("ann", "", "n\n1\n2\n"); status != 201 || !strings.Contains(body, `"ann"`) {
		t.Fatalf("ann uploads: %d %s", status, body)
	}
	if status, body := s.post("ann", "/matviews", "name", "v", "query", "select * from numbers"); status != 201 {
		t.Fatalf("ann makes a view: %d %s", status, body)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	hers, others := s.follow(ctx, "ann"), s.follow(ctx, "eve")
	if status, body := s.post("ann", "/matviews/refresh", "relation", "v"); status != 200 {
		t.Fatalf("ann refreshes it: %d %s", status, body)
	}
	if name := <-hers; name != "ann.v" {
		t.Errorf("ann is told of %s", name)
	}
	s.attack()
	dbtest.Exec(t, s.super, "select tinydevcrm.drop_user('eve', 'ann')")
	select {
	case name := <-others:
		t.Errorf("eve was told of %s", name)
	default:
	}
	if log := s.stderr.String(); strings.Contains(log, "secret") {
		t.Errorf("a password is in the log: %s", log)
	}
}

// attack tries as eve, by HTTP, what is ann's.
func (s *site) attack() {
	t := s.t
	t.Helper()
	for _, path := range []string{"/matviews", "/events", "/", "/?table=ann.numbers", "/?matview=ann.v"} {
		if status, body := s.get("eve", path); status != 200 && status != 404 || strings.Contains(body, "ann.v") && !strings.Contains(path, "ann") {
			t.Errorf("GET %s: %d %s", path, status, body)
		}
	}
	before := dbtest.Value[string](t, s.super, "select md5(string_agg(matviews::text, '')) || (select count(*) from ann.numbers) from tinydevcrm.matviews")
	for _, post := range [][]string{
		{"/matviews/refresh", "relation", "ann.v"},
		{"/matviews/schedule", "relation", "ann.v", "schedule", "5 seconds"},
		{"/matviews/unschedule", "relation", "ann.v"},
		{"/matviews/drop", "relation", "ann.v"},
		{"/matviews", "name", "x", "query", "select * from ann.numbers"},
		{"/matviews", "name", "x", "query", "select 1 as n; drop schema ann cascade"},
		{"/matviews", "name", "x", "query", "select set_config('role', 'postgres', false) as n"},
	} {
		if status, body := s.post("eve", post[0], post[1:]...); status < 400 || status >= 500 {
			t.Errorf("POST %v: %d %s", post, status, body)
		}
	}
	for _, query := range []string{"?table=numbers&schema=ann&mode=replace", "?table=numbers&schema=ann&mode=append", "?table=x&schema=ann"} {
		if status, body := s.upload("eve", query, "n\n9\n"); status < 400 || status >= 500 {
			t.Errorf("upload %s: %d %s", query, status, body)
		}
	}
	if status, body := s.upload("eve", "?table=own", "\"n\"\"); drop schema ann cascade; --\",b\n1,2\n"); status != 201 {
		t.Errorf("an odd header: %d %s", status, body)
	}
	if after := dbtest.Value[string](t, s.super, "select md5(string_agg(matviews::text, '')) || (select count(*) from ann.numbers) from tinydevcrm.matviews"); after != before {
		t.Error("something of ann's has changed")
	}
}

func TestPasswordsCannotBeTriedFast(t *testing.T) {
	s := newSite(t, "ann")
	// Not so the right one, by all the requests of a page at once.
	var group sync.WaitGroup
	for range 30 {
		group.Go(func() {
			if status, body := s.get("ann", "/matviews"); status != 200 {
				t.Errorf("one of many: %d %s", status, body)
			}
		})
	}
	group.Wait()
	statuses := map[int]int{}
	for range 15 {
		status, _ := s.send("ann", "wrong password", "GET", "/matviews", "", "")
		statuses[status]++
	}
	if statuses[401] != 10 || statuses[429] != 5 {
		t.Errorf("15 wrong passwords: %v", statuses)
	}
	if status, body := s.get("ann", "/matviews"); status != 200 {
		t.Errorf("ann, who is in already: %d %s", status, body)
	}
	dbtest.Exec(t, s.super, "alter role ann password 'another word'")
	if status, body := s.send("ann", "another word", "GET", "/matviews", "", ""); status != 429 {
		t.Errorf("the right one, untried: %d %s", status, body)
	}
}

// However many users there are, with views on schedules and pages open, the connections stay under a
// bound: those of the orchestrator itself, of the users active just now, and pg_cron's.
func TestConnectionsDoNotGrowWithUsers(t *testing.T) {
	const count, own, cron = 200, 13, 20
	users := make([]string, count)
	for i := range users {
		users[i] = fmt.Sprintf("user%d", i)
	}
	s := newSite(t, users...)
	for _, user := range users {
		dbtest.Exec(t, s.super, "set role "+user)
		dbtest.Exec(t, s.super, "set search_path = "+user)
		dbtest.Exec(t, s.super, `
			select tinydevcrm.schedule_matview(tinydevcrm.create_matview('v' || i, 'select 1 as n', 'never'), '1 minute')
			  from generate_series(1, 5) as i`)
		dbtest.Exec(t, s.super, "reset role")
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var group sync.WaitGroup
	streams := make([]<-chan string, count)
	slots := make(chan struct{}, 40)
	for i, user := range users {
		group.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if status, body := s.get(user, "/"); status != 200 {
				t.Errorf("%s gets %d: %s", user, status, body)
			}
			streams[i] = s.follow(ctx, user)
		})
	}
	opened := make(chan struct{})
	go func() { group.Wait(); close(opened) }()

	most := 0
	end := time.After(75 * time.Second)
	for isOver := false; !isOver; {
		most = max(most, dbtest.Value[int](t, s.super, "select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()"))
		select {
		case <-end:
			isOver = true
		case <-time.After(50 * time.Millisecond):
		}
	}
	<-opened
	bound := own + login.MaxUsers*login.ConnsPerUser + cron
	t.Logf("at most %d connections, bound %d", most, bound)
	if most > bound {
		t.Errorf("%d connections, want %d at most", most, bound)
	}
	if rounds := dbtest.Value[int](t, s.super, "select count(*) from tinydevcrm.matview_refresh_events where schedule_id is not null"); rounds < 5*count {
		t.Errorf("%d scheduled refreshes, want %d at least", rounds, 5*count)
	}

	dbtest.Exec(t, s.super, "update tinydevcrm.matviews set notify_when = 'always' where relation = 'user7.v1'::regclass")
	dbtest.Exec(t, s.super, "select tinydevcrm.refresh_matview('user7.v1')")
	if name := <-streams[7]; name != "user7.v1" {
		t.Errorf("user7 is told of %s", name)
	}
	for i, stream := range streams {
		if len(stream) > 0 {
			t.Errorf("user%d is told of %s", i, <-stream)
		}
	}
}
