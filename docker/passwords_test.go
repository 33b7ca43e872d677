package docker_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// makePasswords runs docker/passwords as the compose files do, and returns what it prints and the files.
func makePasswords(t *testing.T, folder string, environment ...string) (printed string, files map[string]string) {
	t.Helper()
	for _, role := range []string{"postgres", "runner"} {
		if err := os.MkdirAll(filepath.Join(folder, role), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	command := exec.CommandContext(t.Context(), "./passwords", folder)
	command.Env = append(os.Environ(), fmt.Sprintf("RUNNER_OWNER=%d:%d", os.Getuid(), os.Getgid()))
	command.Env = append(command.Env, environment...)
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	files = make(map[string]string)
	for _, name := range []string{"postgres/password", "postgres/pgpass", "runner/password", "runner/pgpass"} {
		file := filepath.Join(folder, name)
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(content)
		if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v, mode %v", name, err, info.Mode())
		}
	}
	return string(out), files
}

func TestPasswordsAreMadeOnceAndShownOnce(t *testing.T) {
	folder := t.TempDir()
	printed, first := makePasswords(t, folder)
	want := "The database's passwords, which are shown only now:\n" +
		"  postgres://postgres:" + first["postgres/password"] + "@localhost:5432/tinydevcrm\n" +
		"  postgres://runner:" + first["runner/password"] + "@localhost:5432/tinydevcrm\n"
	if printed != want {
		t.Errorf("printed %q, want %q", printed, want)
	}
	if random := regexp.MustCompile(`^[0-9a-f]{32}$`); !random.MatchString(first["postgres/password"]) ||
		!random.MatchString(first["runner/password"]) || first["postgres/password"] == first["runner/password"] {
		t.Errorf("the passwords are %q and %q", first["postgres/password"], first["runner/password"])
	}
	if got := first["runner/pgpass"]; got != "*:*:*:*:"+first["runner/password"]+"\n" {
		t.Errorf("pgpass is %q", got)
	}

	printed, second := makePasswords(t, folder)
	if printed != "" || fmt.Sprint(second) != fmt.Sprint(first) {
		t.Errorf("a second start prints %q and makes %v of %v", printed, second, first)
	}
	if _, other := makePasswords(t, t.TempDir()); other["postgres/password"] == first["postgres/password"] {
		t.Error("another installation has the same password")
	}
}

func TestPasswordsThatAreGiven(t *testing.T) {
	printed, files := makePasswords(t, t.TempDir(), `POSTGRES_PASSWORD=a:b\c`, "RUNNER_PASSWORD=it's")
	if printed != "" {
		t.Errorf("a password that is given is printed: %q", printed)
	}
	if files["postgres/password"] != `a:b\c` || files["postgres/pgpass"] != `*:*:*:*:a\:b\\c`+"\n" || files["runner/pgpass"] != "*:*:*:*:it's\n" {
		t.Errorf("the files are %q", files)
	}
}
