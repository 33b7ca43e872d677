package migrations_test

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/yingw787/tinydevcrm-mvp/migrations"
)

// TestReleasedMigrationsAreFinal: a database that has run a migration never runs it again. So a released one does not
// change, and none comes before it.
func TestReleasedMigrationsAreFinal(t *testing.T) {
	list, err := os.ReadFile("released.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range changedSinceRelease(t, string(list), migrations.Files) {
		t.Errorf("%s; write a new migration", problem)
	}
}

// changedSinceRelease returns what differs from the list, whose lines are a version, a file and its SHA-256.
func changedSinceRelease(t *testing.T, list string, files fs.FS) (problems []string) {
	t.Helper()
	names, err := fs.Glob(files, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	released := make(map[string]bool)
	last := ""
	for line := range strings.Lines(list) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Fields(line)
		if len(fields) != 3 || len(fields[2]) != 64 {
			t.Fatalf("%q is not a version, a file and a SHA-256", line)
		}
		version, name := fields[0], fields[1]
		released[name] = true
		last = max(last, name)
		text, err := fs.ReadFile(files, name)
		switch {
		case err != nil:
			problems = append(problems, fmt.Sprintf("%s, released in %s, is gone", name, version))
		case fmt.Sprintf("%x", sha256.Sum256(text)) != fields[2]:
			problems = append(problems, fmt.Sprintf("%s has changed since its release in %s", name, version))
		}
	}
	for _, name := range names {
		if !released[name] && name < last {
			problems = append(problems, fmt.Sprintf("%s comes before %s, which is released", name, last))
		}
	}
	return problems
}

// The comparison must find each kind of change in a list that scripts/release freeze has written.
func TestChangesSinceAReleaseAreFound(t *testing.T) {
	folder := t.TempDir()
	for name, text := range map[string]string{
		"scripts/release":                   "",
		"migrations/released.txt":           "# Released.\n",
		"migrations/000001_make_a.up.sql":   "create table a ();",
		"migrations/000001_make_a.down.sql": "drop table a;",
		"migrations/000003_make_c.up.sql":   "create table c ();",
	} {
		if name == "scripts/release" {
			script, err := os.ReadFile("../scripts/release")
			if err != nil {
				t.Fatal(err)
			}
			text = string(script)
		}
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	freeze := func(version string) (string, error) {
		out, err := exec.CommandContext(t.Context(), filepath.Join(folder, "scripts/release"), "freeze", version).CombinedOutput()
		return string(out), err
	}
	if out, err := freeze("0.1.0"); err != nil {
		t.Fatalf("freeze: %v\n%s", err, out)
	}
	if out, err := freeze("0.1.0"); err == nil || !strings.Contains(out, "0.1.0 is released already") {
		t.Errorf("the same version again: %v\n%s", err, out)
	}
	list, err := os.ReadFile(filepath.Join(folder, "migrations/released.txt"))
	if err != nil {
		t.Fatal(err)
	}
	now := fstest.MapFS{}
	change := func(name, text string) { now[name] = &fstest.MapFile{Data: []byte(text)} }
	change("000001_make_a.up.sql", "create table a ();")
	change("000001_make_a.down.sql", "drop table a;")
	change("000003_make_c.up.sql", "create table c ();")
	change("000004_make_d.up.sql", "create table d ();")
	if found := changedSinceRelease(t, string(list), now); len(found) != 0 {
		t.Errorf("a new migration after the last released one: %q", found)
	}
	change("000001_make_a.down.sql", "drop table a; -- edited")
	change("000002_make_b.up.sql", "create table b ();")
	delete(now, "000003_make_c.up.sql")
	want := []string{
		"000001_make_a.down.sql has changed since its release in 0.1.0",
		"000003_make_c.up.sql, released in 0.1.0, is gone",
		"000002_make_b.up.sql comes before 000003_make_c.up.sql, which is released",
	}
	if found := changedSinceRelease(t, string(list), now); !slices.Equal(found, want) {
		t.Errorf("found %q, want %q", found, want)
	}
}
