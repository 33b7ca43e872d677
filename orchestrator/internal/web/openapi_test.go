package web_test

import (
	"encoding/json"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web"
)

// openapi.json has each route of the page, and no other but those that the program adds. What a route takes and answers is
// tested with the documents.
func TestEachRouteIsDescribed(t *testing.T) {
	content, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Paths map[string]map[string]struct{ Tags []string }
	}
	if err := json.Unmarshal(content, &file); err != nil {
		t.Fatal(err)
	}
	var described []string
	for path, methods := range file.Paths {
		for method, operation := range methods {
			if !slices.Equal(operation.Tags, []string{"program"}) {
				described = append(described, strings.ToUpper(method)+" "+path)
			}
		}
	}
	registered := web.Patterns(web.Config{Logger: slog.New(slog.DiscardHandler)})
	for i, pattern := range registered {
		registered[i] = strings.ReplaceAll(pattern, "{$}", "")
	}
	registered = slices.DeleteFunc(registered, func(pattern string) bool { return pattern == "GET /openapi.json" })
	slices.Sort(described)
	slices.Sort(registered)
	for _, pattern := range registered {
		if !slices.Contains(described, pattern) {
			t.Errorf("openapi.json does not have %s", pattern)
		}
	}
	for _, pattern := range described {
		if !slices.Contains(registered, pattern) {
			t.Errorf("openapi.json has %s, which is no route", pattern)
		}
	}
	if len(registered) < 70 {
		t.Errorf("only %d routes are registered: %q", len(registered), registered)
	}
}
