package main

import (
	"net/url"
	"strings"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// The health check tests the program: it passes while the program runs, whatever address it listens on.
func TestHealthIsThatOfThePage(t *testing.T) {
	_, databaseURL := dbtest.Schema(t)
	_, stderr, end := begin(t, databaseURL, "up", "--listen-addr", "127.0.0.1:0")
	page, err := url.Parse(pageOf(t, stderr))
	if err != nil {
		t.Fatal(err)
	}
	ask := func() error {
		var out strings.Builder
		environment := func(name string) string {
			return map[string]string{"LISTEN_ADDR": "0.0.0.0:" + page.Port()}[name]
		}
		return run(t.Context(), []string{"health"}, environment, strings.NewReader(""), &out, &out)
	}
	if err := ask(); err != nil {
		t.Errorf("the page is up: %v", err)
	}
	end()
	if err := ask(); err == nil || !strings.Contains(err.Error(), "no page answers") {
		t.Errorf("it has ended: %v", err)
	}
}
