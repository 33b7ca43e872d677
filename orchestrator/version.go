package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/migrate"
)

// The linker sets these when a release is built: -X main.version=0.1.0. Otherwise the toolchain derives them from git.
var version, commit, date string

// A build says which program this is.
type build struct {
	// version is "unknown" when the program was built without a version and without git.
	version string
	// commit and date are those of the last commit; empty when unknown.
	commit, date string
	// isChanged is whether files differed from that commit.
	isChanged bool
	// schema is the version of the schema inside.
	schema int
}

func readBuild() build {
	b := build{version: version, commit: commit, date: date}
	b.schema, _ = migrate.Latest()
	if info, ok := debug.ReadBuildInfo(); ok {
		b.describe(info)
	}
	if b.version == "" {
		b.version = "unknown"
	}
	return b
}

// describe adds what the toolchain has recorded, unless the linker has set it.
func (b *build) describe(info *debug.BuildInfo) {
	if b.version != "" {
		return
	}
	if info.Main.Version != "(devel)" {
		b.version = strings.TrimPrefix(info.Main.Version, "v")
	}
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			b.commit = setting.Value
		case "vcs.time":
			b.date = setting.Value
		case "vcs.modified":
			b.isChanged = setting.Value == "true"
		}
	}
}

// String is the line that --version prints.
func (b build) String() string {
	line := fmt.Sprintf("orchestrator %s, schema %d", b.version, b.schema)
	if b.commit != "" {
		line += fmt.Sprintf(", commit %.12s of %s", b.commit, b.date)
	}
	if b.isChanged {
		line += " with changes"
	}
	return fmt.Sprintf("%s, %s %s/%s", line, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// labels are those of the metric tinydevcrm_build_info.
func (b build) labels() map[string]string {
	return map[string]string{"version": b.version, "commit": b.commit, "go_version": runtime.Version()}
}
