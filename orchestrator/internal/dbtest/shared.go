package dbtest

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/migrate"
)

// shared is the server of this package's tests. pg_cron runs in one database of a server, so packages that are
// tested at the same time cannot share a server.
var shared struct {
	hasMain bool
	once    sync.Once
	url     string
	destroy *exec.Cmd
}

// URL returns the URL of a migrated database: TINYDEVCRM_TEST_URL, or that of a server which the first test
// starts and Main destroys.
func URL(t testing.TB) string {
	t.Helper()
	if url := os.Getenv("TINYDEVCRM_TEST_URL"); url != "" {
		return url
	}
	if !shared.hasMain {
		t.Fatal("the package has no TestMain that calls dbtest.Main, which destroys the server")
	}
	shared.once.Do(func() {
		name, bindir := fmt.Sprintf("go%d-0", os.Getpid()), os.Getenv("PG_BINDIR")
		shared.destroy = script(t, name, bindir, true, "destroy")
		if output, err := script(t, name, bindir, true, "reset").CombinedOutput(); err != nil {
			t.Fatalf("scripts/db reset: %v\n%s", err, output)
		}
		output, err := script(t, name, bindir, true, "url").Output()
		if err != nil {
			t.Fatalf("scripts/db url: %v", err)
		}
		url := strings.TrimSpace(string(output))
		migrateUp(t, url)
		stopUpkeep(t, url)
		shared.url = url
	})
	if shared.url == "" {
		t.Fatal("the shared server could not be made; see the failure of the first test that used it")
	}
	return shared.url
}

func migrateUp(t testing.TB, url string) {
	t.Helper()
	pool, err := db.Open(t.Context(), url, db.MaxConns)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	migrator, err := migrate.Open(t.Context(), pool)
	if err != nil {
		t.Fatal(err)
	}
	defer migrator.Close()
	if err := migrator.Up(0); err != nil {
		t.Fatal(err)
	}
}

// original is the stopped server that NewMigrated copies.
var original struct {
	once    sync.Once
	name    string
	destroy *exec.Cmd
}

// migrated returns the name of original, which the first test makes and Main destroys.
func migrated(t *testing.T) string {
	t.Helper()
	if !shared.hasMain {
		t.Fatal("the package has no TestMain that calls dbtest.Main, which destroys the server")
	}
	original.once.Do(func() {
		name, bindir := fmt.Sprintf("go%d-original", os.Getpid()), os.Getenv("PG_BINDIR")
		original.destroy = script(t, name, bindir, true, "destroy")
		for _, command := range []string{"reset", "url", "stop"} {
			output, err := script(t, name, bindir, true, command).Output()
			if err != nil {
				t.Fatalf("scripts/db %s: %v", command, err)
			}
			if command == "url" {
				migrateUp(t, strings.TrimSpace(string(output)))
			}
		}
		original.name = name
	})
	if original.name == "" {
		t.Fatal("the server to copy could not be made; see the failure of the first test that needed it")
	}
	return original.name
}

// stopUpkeep leaves upkeep to the tests: at each full minute, pg_cron would do what one of them has just prepared.
func stopUpkeep(t testing.TB, url string) {
	t.Helper()
	pool, err := db.Open(t.Context(), url, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	Exec(t, pool, "update cron.job set active = false where jobname = 'tinydevcrm upkeep'")
}

// Main runs the tests of a package, destroys the servers that they shared, and returns the exit code.
func Main(m *testing.M) int {
	shared.hasMain = true
	code := m.Run()
	for _, destroy := range []*exec.Cmd{shared.destroy, original.destroy} {
		if destroy == nil {
			continue
		}
		if output, err := destroy.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "scripts/db destroy: %v\n%s", err, output)
			code = 1
		}
	}
	return code
}

// SameOnEveryServer skips a test, and names it, in a run that tests only what depends on the server's version.
func SameOnEveryServer(t testing.TB) {
	t.Helper()
	if os.Getenv("TINYDEVCRM_TEST_PART") == "server" {
		t.Skipf("not run: %s: it is the same on every server", t.Name())
	}
}

// Long skips a test, and names it, in a short run, such as one with the race detector, which is ten times
// slower on code that reads many bytes.
func Long(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skipf("not run: %s: it is long; scripts/test server runs it", t.Name())
	}
}
