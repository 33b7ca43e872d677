package main

import (
	"strings"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

func TestEmbedFromTheCommandLine(t *testing.T) {
	pool, databaseURL := dbtest.Schema(t)
	schema := dbtest.Value[string](t, pool, "select current_schema()")
	dbtest.Exec(t, pool, `select tinydevcrm.create_matview('Odd view', 'select 1 as n')`)

	stdout := mustCommand(t, databaseURL, "matview", "embed", `"Odd view"`,
		"--origin", "https://example.com", "--origin", "https://*.example.com,http://localhost:8000")
	if want := "/embed/" + schema + ".%22Odd%20view%22"; !strings.Contains(stdout, want) {
		t.Errorf("it says %q, want %q", stdout, want)
	}
	origins := dbtest.Value[string](t, pool, `select origins from tinydevcrm.embeds where relation = '"Odd view"'::regclass`)
	if origins != "{https://example.com,https://*.example.com,http://localhost:8000}" {
		t.Errorf("the origins are %s", origins)
	}
	mustCommand(t, databaseURL, "matview", "unembed", `"Odd view"`)
	if left := dbtest.Value[int](t, pool, `select count(*) from tinydevcrm.embeds where relation = '"Odd view"'::regclass`); left != 0 {
		t.Errorf("%d are left", left)
	}

	for _, test := range []struct{ origin, says string }{
		{"--origin=example.com", "these are not origins: example.com"}, {"--origin=", "these are not origins: none"},
	} {
		_, stderr, err := command(t, databaseURL, "", "matview", "embed", `"Odd view"`, test.origin)
		if err == nil || !strings.Contains(stderr, test.says) || !strings.Contains(stderr, "Hint: ") {
			t.Errorf("%s: %v, %s", test.origin, err, stderr)
		}
	}
}
