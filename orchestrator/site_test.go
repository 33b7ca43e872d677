package main

import (
	"bufio"
	"context"
	"database/sql"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

const secret = "secret word 1"

// A site is a page with users, on a server that asks them for their passwords.
type site struct {
	t      *testing.T
	url    string
	super  *sql.DB
	server *dbtest.Server
	stderr *output
}

// newSite creates the users and starts the page as the orchestrator's role.
func newSite(t *testing.T, users ...string) *site {
	t.Helper()
	server := dbtest.NewMigrated(t)
	super := open(t, server.URL, "postgres")
	for _, user := range users {
		dbtest.Exec(t, super, "select tinydevcrm.create_user($1, $2)", user, secret)
	}
	dbtest.Exec(t, super, "create role runner login in role tinydevcrm_orchestrator")
	address := server.ListenOn("scram-sha-256")

	runner := dbtest.AsRole(server.URL, "runner")
	if _, stderr, err := command(t, runner, "", "up", "--listen-addr", "localhost:0", "--auth"); err == nil ||
		!strings.Contains(stderr, "without a password") || !strings.Contains(stderr, "--auth-url") {
		t.Errorf("a server that trusts everyone is accepted: %v, %s", err, stderr)
	}
	_, stderr := background(t, runner, "up", "--listen-addr", "localhost:0",
		"--auth", "--auth-url", "postgres://"+address+":5432/tinydevcrm?sslmode=disable")
	return &site{t: t, url: pageOf(t, stderr), super: super, server: server, stderr: stderr}
}

// send sends a request as a user, and returns the status and the body.
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
	return s.answer(request)
}

func (s *site) answer(request *http.Request) (int, string) {
	s.t.Helper()
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

// follow opens a user's event stream, and sends the view names of its events until it ends.
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
		defer close(names)
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

// sees returns what a browser shows to a user.
func (s *site) sees(user, path string) (int, string) {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), "GET", s.url+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	if user != "" {
		request.SetBasicAuth(user, secret)
	}
	request.Header.Set("Accept", "text/html")
	return s.answer(request)
}

// belongings are a user's rows in our tables, and all rows of the user's own relations, by table.
func (s *site) belongings(user string) map[string][]string {
	t := s.t
	t.Helper()
	rows := make(map[string][]string)
	for _, table := range dbtest.Column[string](t, s.super, `
		select format('%s where owner = %L::regrole', attrelid::regclass, $1::text)
		  from pg_attribute
		  join pg_class on pg_class.oid = attrelid
		 where relnamespace = 'tinydevcrm'::regnamespace and relkind = 'r' and attname = 'owner'
		 union all
		select pg_class.oid::regclass::text
		  from pg_class
		 where relowner = $1::regrole and relkind in ('r', 'm')`, user) {
		name, _, _ := strings.Cut(table, " ")
		rows[name] = dbtest.Column[string](t, s.super,
			"select row_of::text from (select * from "+table+") as row_of order by row_of::text")
	}
	return rows
}

// unchanged compares a user's belongings with those of before, and names each table that has changed.
func (s *site) unchanged(user string, before map[string][]string) {
	s.t.Helper()
	after := s.belongings(user)
	if len(before["tinydevcrm.matviews"]) == 0 || len(before["tinydevcrm.imports"]) == 0 {
		s.t.Fatalf("%s has nothing to compare: %v", user, before)
	}
	for table := range after {
		if _, was := before[table]; !was {
			s.t.Errorf("%s has a new table, %s", user, table)
		}
	}
	for table, was := range before {
		if is, isThere := after[table]; !isThere || !slices.Equal(was, is) {
			s.t.Errorf("%s of %s: was\n%s\nand is\n%s", table, user, strings.Join(was, "\n"), strings.Join(is, "\n"))
		}
	}
}
