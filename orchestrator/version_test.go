package main

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"
	"testing"
)

func TestVersionComesFromTheBuild(t *testing.T) {
	at := func(version string, settings ...debug.BuildSetting) *debug.BuildInfo {
		return &debug.BuildInfo{Main: debug.Module{Version: version}, Settings: settings}
	}
	stamp := []debug.BuildSetting{
		{Key: "vcs.revision", Value: "0123456789abcdef0123456789abcdef01234567"},
		{Key: "vcs.time", Value: "2026-11-27T14:00:00Z"},
	}
	for name, test := range map[string]struct {
		linked build
		info   *debug.BuildInfo
		want   string
	}{
		"a release": {build{version: "0.1.0", commit: "fedcba9876543210", date: "2026-11-28"}, at("v0.0.0-2026", stamp...),
			"orchestrator 0.1.0, schema 3, commit fedcba987654 of 2026-11-28, go"},
		"go install of a tag": {build{}, at("v0.1.0"), "orchestrator 0.1.0, schema 3, go"},
		"changed files": {build{}, at("v0.0.0-2026+dirty", append(stamp, debug.BuildSetting{Key: "vcs.modified", Value: "true"})...),
			"orchestrator 0.0.0-2026+dirty, schema 3, commit 0123456789ab of 2026-11-27T14:00:00Z with changes, go"},
		"without git": {build{}, at("(devel)"), "orchestrator , schema 3, go"},
	} {
		t.Run(name, func(t *testing.T) {
			b := test.linked
			b.schema = 3
			b.describe(test.info)
			if got := b.String(); !strings.HasPrefix(got, test.want) {
				t.Errorf("%q, want %q…", got, test.want)
			}
		})
	}
}

// The program that a release builds says so.
func TestVersionOfALinkedProgram(t *testing.T) {
	t.Parallel()
	binary := filepath.Join(t.TempDir(), "orchestrator")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-ldflags", "-X main.version=1.2.3-test -X main.commit=0123456789abcdef -X main.date=2026-11-27", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	out, err := exec.CommandContext(t.Context(), binary, "--version").CombinedOutput()
	if want := regexp.MustCompile(`^orchestrator 1\.2\.3-test, schema [1-9]\d+, commit 0123456789ab of 2026-11-27, go1\.\d+\S* \w+/\w+\n$`); err != nil || !want.Match(out) {
		t.Errorf("--version: %v, %q", err, out)
	}
}
