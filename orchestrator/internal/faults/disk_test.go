//go:build faults

package faults

import (
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// newDisk mounts a disk of that size, which the server's owner owns, beside the server's data. The server must
// be stopped before the disk is removed.
func newDisk(t *testing.T, server *dbtest.Server, megabytes int) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("only root may mount a small tmpfs: run this as root")
	}
	path := filepath.Join(filepath.Dir(server.Folder()), "disk")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	uid, gid := ownerOf(t, server.Folder())
	options := fmt.Sprintf("size=%dm,mode=0700,uid=%d,gid=%d", megabytes, uid, gid)
	if err := syscall.Mount("tmpfs", path, "tmpfs", 0, options); err != nil {
		t.Fatalf("mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		server.Stop()
		if err := syscall.Unmount(path, 0); err != nil {
			t.Errorf("unmount the tmpfs: %v", err)
			syscall.Unmount(path, syscall.MNT_DETACH)
		}
	})
	return path
}

// fill writes a file to a disk so that this much remains free.
func fill(t *testing.T, disk string, freeMegabytes uint64) (path string) {
	t.Helper()
	var stat syscall.Statfs_t
	if err := syscall.Statfs(disk, &stat); err != nil {
		t.Fatal(err)
	}
	free := stat.Bavail * uint64(stat.Bsize)
	path = filepath.Join(disk, "ballast")
	if free > freeMegabytes<<20 {
		if err := os.WriteFile(path, make([]byte, free-freeMegabytes<<20), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func used(t *testing.T, disk string) int {
	t.Helper()
	var stat syscall.Statfs_t
	if err := syscall.Statfs(disk, &stat); err != nil {
		t.Fatal(err)
	}
	return int((stat.Blocks - stat.Bfree) * uint64(stat.Bsize) >> 10)
}

// The disk with the tables gets full: an upload of 25 MB on a disk of 64 MB, most of which is used.
func TestFullDisk(t *testing.T) {
	server, pool := newServer(t)
	disk := newDisk(t, server, 64)
	dbtest.Exec(t, pool, "create tablespace small location '"+disk+"'")
	dbtest.Exec(t, pool, "alter role postgres set default_tablespace = small")
	dbtest.Exec(t, pool, "alter role postgres set temp_tablespaces = small")
	// The test's own connections must use it too.
	pool.SetMaxIdleConns(0)
	p := startUp(t, binary, server.URL)
	ballast := fill(t, disk, 10)
	before := used(t, disk)

	sees := p.upload("big", wholeFeed(uploadRows))
	sees.says(t, 503, "53100", "No space left on device", "Hint")
	left := leftovers(t, pool, "big")
	command := run(t, server.URL, wholeFeed(uploadRows), nil, "upload", "-", "--table", "big")
	command.says(t, 1, "No space left on device")
	leftovers(t, pool, "big")
	// Deliveries do not need the full disk.
	id := refresh(t, pool)
	dbtest.Eventually(t, dbtest.Deadline, "an event is logged while the disk is full", func() bool { return p.logged()[id] == 1 })
	// The file of a dropped table is removed at the next checkpoint.
	dbtest.Exec(t, pool, "checkpoint")
	more := used(t, disk) - before

	// A refresh whose rows do not fit is a failure event. The rows of the previous refresh stay.
	dbtest.Exec(t, pool, "create table knobs tablespace pg_default as select 1 as rows")
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('wide', $$select n, repeat(n::text, 100) from generate_series(1, (select rows from knobs)) as n$$)")
	dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('wide')")
	dbtest.Exec(t, pool, "update knobs set rows = 500000")
	failed := dbtest.Value[string](t, pool, "select concat_ws(' ', outcome, error_code, error_message) from tinydevcrm.refresh_matview('wide')")
	if !strings.HasPrefix(failed, "failed 53100") || count(t, pool, "wide") != 1 {
		t.Errorf("the refresh: %s, and %d rows", failed, count(t, pool, "wide"))
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	again := p.upload("big", wholeFeed(uploadRows))
	again.says(t, 201)
	report(t, "disk of the tables full", sees, "%s, %d kB more on the disk; the server never stopped; a refresh: %s; space freed, the same upload: %d, %d rows; %s",
		left, more, failed, again.status, count(t, pool, "big"), allLogged(t, pool, p))
}

// The disk with the write-ahead log gets full. Postgres then ends, and starts again once there is space.
func TestFullDiskOfTheLog(t *testing.T) {
	server, pool := newServer(t)
	disk := newDisk(t, server, 160)
	moveLog(t, server, pool, disk)
	p := startUp(t, binary, server.URL)
	refresh(t, pool)
	ballast := fill(t, disk, 1)
	sees := p.upload("big", wholeFeed(5*uploadRows))
	if sees.status != 503 {
		t.Errorf("the answer is %s, want 503", sees)
	}
	dbtest.Eventually(t, time.Minute, "the page says that the server is away", func() bool { return p.get("/").status == 503 })
	page := p.get("/")
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	server.Start()
	answers(t, pool)
	left := leftovers(t, pool, "big")
	took := recovered(t, p, pool)
	again := p.upload("big", wholeFeed(uploadRows))
	again.says(t, 201)
	report(t, "disk of the write-ahead log full", fmt.Sprintf("upload: %s; page: %s", sees, page),
		"%s; %s; space freed and server started: page and events back in %s; an upload: %d, %d rows; %s",
		left, orphans(t, server, pool), seconds(took), again.status, count(t, pool, "big"), allLogged(t, pool, p))
}

// moveLog moves pg_wal to another disk.
func moveLog(t *testing.T, server *dbtest.Server, pool *sql.DB, disk string) {
	t.Helper()
	dbtest.Exec(t, pool, "checkpoint")
	server.Stop()
	server.Set("max_wal_size", "2GB")
	server.Set("min_wal_size", "32MB")
	from, to := filepath.Join(server.Folder(), "pg_wal"), filepath.Join(disk, "pg_wal")
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		t.Fatalf("copy pg_wal: %v\n%s", err, out)
	}
	if err := os.RemoveAll(from); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(to, from); err != nil {
		t.Fatal(err)
	}
	server.Start()
	answers(t, pool)
}
