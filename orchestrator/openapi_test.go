package main

import (
	"encoding/json"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/ops"
)

// openapi.json has each route that the program adds to those of the page.
func TestEachRouteBesideThePageIsDescribed(t *testing.T) {
	content, err := os.ReadFile("internal/web/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Paths map[string]map[string]struct{ Tags []string }
	}
	if err := json.Unmarshal(content, &file); err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.DiscardHandler)
	routes := (&program{}).routesBesidePage(ops.New(t.Context(), ops.Config{Logger: logger}), nil, logger)
	described := []string{}
	for path, methods := range file.Paths {
		for method, operation := range methods {
			if slices.Equal(operation.Tags, []string{"program"}) && path != "/openapi.json" {
				described = append(described, strings.ToUpper(method)+" "+path)
			}
		}
	}
	slices.Sort(described)
	if registered := slices.Sorted(maps.Keys(routes)); !slices.Equal(described, registered) {
		t.Errorf("openapi.json has %q, and the program %q", described, registered)
	}
}
