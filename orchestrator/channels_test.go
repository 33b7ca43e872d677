package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// From the command line to the receiver: each format in its own shape, with the owner's headers, which nothing shows.
func TestEventsGoToChannels(t *testing.T) {
	t.Parallel()
	const token = "t0ken-of-the-owner"
	pool, server := newServer(t)
	type post struct {
		path, authorization string
		body                map[string]any
	}
	posts := make(chan post, 10)
	services := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got := post{path: r.URL.Path, authorization: r.Header.Get("Authorization")}
		if err := json.Unmarshal(body, &got.body); err != nil {
			t.Errorf("%s: %v", r.URL.Path, err)
		}
		if strings.HasPrefix(r.URL.Path, "/services/") {
			w.WriteHeader(http.StatusNotFound)
			io.WriteString(w, "no_service")
			return
		}
		posts <- got
	}))
	t.Cleanup(services.Close)
	next := func() post {
		t.Helper()
		select {
		case got := <-posts:
			return got
		case <-time.After(dbtest.Deadline):
			t.Fatal("nothing is posted")
			return post{}
		}
	}
	url := dbtest.ByName(services.URL)
	file := filepath.Join(t.TempDir(), "headers")
	if err := os.WriteFile(file, []byte("Authorization: Bearer "+token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	_, output := background(t, server.URL, upWithWebhooks...)
	said := mustCommand(t, server.URL, "webhook", "create", "push", url+"/secret-topic-of-ours", "--format", "ntfy", "--header", "@"+file)
	if want := "posts to " + url + "/…ours in format ntfy\n"; said != want {
		t.Errorf("it says %q, want %q", said, want)
	}
	mustCommand(t, server.URL, "webhook", "create", "dead", url+"/services/T/B/secret", "--format", "slack")
	dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('v')")
	got := next()
	if got.path != "/" || got.body["topic"] != "secret-topic-of-ours" || got.body["title"] != "v: 1 row" || got.authorization != "Bearer "+token {
		t.Errorf("got %+v", got)
	}
	awaitStatus(t, pool, "dead", "switched off")

	if _, _, err := command(t, server.URL, "", "webhook", "alter", "push", "--header", "Host: evil.example"); exitCode(err) != exitUsage {
		t.Errorf("a header that is not the owner's: %v", err)
	}
	if _, stderr, err := command(t, server.URL, "", "webhook", "alter", "push", "--header", token); exitCode(err) != exitUsage || strings.Contains(stderr, token) {
		t.Errorf("a header without a colon: %v, %s", err, stderr)
	}
	mustCommand(t, server.URL, "webhook", "alter", "push", "--no-headers")
	dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('v')")
	if got := next(); got.authorization != "" {
		t.Errorf("after the headers were removed: %+v", got)
	}

	list := mustCommand(t, server.URL, "subscription", "list")
	status, _, _ := command(t, server.URL, "", "status", "--json")
	for what, text := range map[string]string{"subscription list": list, "status": status, "log": output.String()} {
		for _, secret := range []string{token, "secret-topic", "T/B/secret"} {
			if strings.Contains(text, secret) {
				t.Errorf("%s shows %s:\n%s", what, secret, text)
			}
		}
	}
	if formats := mustCommand(t, server.URL, "webhook", "formats"); !strings.Contains(formats, "telegram") {
		t.Errorf("formats: %s", formats)
	}
}
