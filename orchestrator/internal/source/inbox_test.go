package source_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/source"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
)

// watch has a new inbox watched until the test ends.
func watch(t *testing.T, pool *sql.DB) (folder string) {
	t.Helper()
	folder = t.TempDir()
	watchFolder(t, pool, folder)
	return folder
}

func watchFolder(t *testing.T, pool *sql.DB, folder string) {
	t.Helper()
	logger := slog.New(slog.NewTextHandler(t.Output(), nil))
	runner := source.NewRunnerWithin(pool, source.NewNetwork(nil), upload.Limits{}, logger, time.Second, time.Minute)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- runner.WatchInbox(ctx, folder) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// awaitMoved waits until a file is in a folder of the inbox, and returns its path there.
func awaitMoved(t *testing.T, inbox, folder, name string, count int) string {
	t.Helper()
	var found []string
	dbtest.Eventually(t, dbtest.Deadline, fmt.Sprintf("%s is in %s/", name, folder), func() bool {
		found, _ = filepath.Glob(filepath.Join(inbox, folder, "*-"+name))
		return len(found) == count
	})
	return append([]string{""}, found...)[len(found)]
}

func TestFilesOfTheInboxAreImportedOnce(t *testing.T) {
	pool := schema(t)
	name := create(t, pool, "orders", "file:orders-*.csv", ", mode => 'append'")
	inbox := watch(t, pool)
	write(t, filepath.Join(inbox, "orders-1.csv"), "id\n1\n2\n")
	moved := awaitMoved(t, inbox, "done", "orders-1.csv", 1)
	await(t, pool, name, "imported", 1)

	// As when the program was killed after the commit, and before it moved the file.
	if err := os.Rename(moved, filepath.Join(inbox, "orders-1.csv")); err != nil {
		t.Fatal(err)
	}
	awaitMoved(t, inbox, "done", "orders-1.csv", 1)
	await(t, pool, name, "unchanged", 2)
	write(t, filepath.Join(inbox, "orders-2.csv"), "id\n3\n")
	awaitMoved(t, inbox, "done", "orders-2.csv", 1)
	await(t, pool, name, "imported", 3)
	if got := dbtest.Value[string](t, pool, "select string_agg(id::text, ',' order by id) from orders"); got != "1,2,3" {
		t.Errorf("the table has %s", got)
	}

	write(t, filepath.Join(inbox, "orders-3.csv"), "id\n4\nfive\n")
	why, err := os.ReadFile(awaitMoved(t, inbox, "failed", "orders-3.csv", 1) + ".reason.txt")
	if err != nil || !strings.Contains(string(why), "five") {
		t.Errorf("the reason is %q, %v", why, err)
	}
	if got := await(t, pool, name, "failed", 4); !strings.Contains(got, "five") {
		t.Errorf("the run says %q", got)
	}
	// Without a source it becomes a table of its own.
	write(t, filepath.Join(inbox, "others.csv"), "n\n1\n")
	moved = awaitMoved(t, inbox, "done", "others.csv", 1)
	if err := os.Rename(moved, filepath.Join(inbox, "others.csv")); err != nil {
		t.Fatal(err)
	}
	dbtest.Eventually(t, dbtest.Deadline, "it was taken again", func() bool {
		_, err := os.Lstat(filepath.Join(inbox, "others.csv"))
		return err != nil
	})
	awaitMoved(t, inbox, "failed", "others.csv", 0)
	awaitMoved(t, inbox, "done", "others.csv", 1)
	write(t, filepath.Join(inbox, "others.csv"), "n\n1\n")
	awaitMoved(t, inbox, "failed", "others.csv", 1)
}

func TestWhatIsNotAFileOfTheInboxStays(t *testing.T) {
	pool := schema(t)
	inbox := watch(t, pool)
	outside := filepath.Join(t.TempDir(), "secret.csv")
	write(t, outside, "secret\n1\n")
	if err := os.Symlink(outside, filepath.Join(inbox, "linked.csv")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(inbox, "folder.csv"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(inbox, "partial.csv.part"), "n\n1\n")
	write(t, filepath.Join(inbox, ".hidden.csv"), "n\n1\n")

	growing, err := os.Create(filepath.Join(inbox, "growing.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer growing.Close()
	fmt.Fprintln(growing, "n")
	ticker := time.NewTicker(40 * time.Millisecond)
	defer ticker.Stop()
	for i := range 30 {
		<-ticker.C
		fmt.Fprintln(growing, i)
	}
	awaitMoved(t, inbox, "done", "growing.csv", 1)
	if n := dbtest.Value[int](t, pool, "select count(*) from growing"); n != 30 {
		t.Errorf("%d rows of a file that was growing", n)
	}
	if tables := dbtest.Value[int](t, pool, "select count(*) from pg_tables where schemaname = current_schema()"); tables != 1 {
		t.Errorf("there are %d tables", tables)
	}
	for _, stays := range []string{"linked.csv", "folder.csv", "partial.csv.part", ".hidden.csv"} {
		if _, err := os.Lstat(filepath.Join(inbox, stays)); err != nil {
			t.Error(err)
		}
	}
}

func TestTheNewestFileOfASourceIsImportedLast(t *testing.T) {
	pool := schema(t)
	create(t, pool, "orders", "file:orders-*.csv", "")
	inbox := t.TempDir()
	const files = 6
	for i := range files {
		path := filepath.Join(inbox, fmt.Sprintf("orders-%d.csv", i))
		write(t, path, fmt.Sprintf("id\n%d\n", i))
		// The later its name, the older it is.
		if err := os.Chtimes(path, time.Time{}, time.Now().Add(-time.Duration(i)*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	watchFolder(t, pool, inbox)
	for i := range files {
		awaitMoved(t, inbox, "done", fmt.Sprintf("orders-%d.csv", i), 1)
	}
	if got := dbtest.Value[int](t, pool, "select id from orders"); got != 0 {
		t.Errorf("file %d was imported last", got)
	}
}

func TestAFileThatGrowsWhileItIsImportedIsImportedOnce(t *testing.T) {
	pool := schema(t)
	create(t, pool, "orders", "file:orders.csv", ", mode => 'append'")
	dbtest.Exec(t, pool, "create table orders (id integer)")
	held, err := pool.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Rollback()
	if _, err := held.ExecContext(t.Context(), "lock table orders"); err != nil {
		t.Fatal(err)
	}
	inbox := watch(t, pool)
	path := filepath.Join(inbox, "orders.csv")
	write(t, path, "id\n1\n")
	dbtest.Eventually(t, dbtest.Deadline, "the import waits", func() bool {
		return dbtest.Value[bool](t, pool, "select exists (select from pg_locks where relation = 'orders'::regclass and not granted)")
	})
	write(t, path, "id\n1\n2\n")
	if err := held.Rollback(); err != nil {
		t.Fatal(err)
	}
	dbtest.Eventually(t, dbtest.Deadline, "it is moved", func() bool {
		_, err := os.Lstat(path)
		return err != nil
	})
	awaitMoved(t, inbox, "done", "orders.csv", 1)
	if got := dbtest.Value[string](t, pool, "select string_agg(id::text, ',' order by id) from orders"); got != "1,2" {
		t.Errorf("the table has %s", got)
	}
}

// No file holds up those behind it, whatever its name and whatever the server makes of it.
func TestNoFileHoldsUpTheInbox(t *testing.T) {
	pool := schema(t)
	create(t, pool, "orders", "file:*orders.csv", ", mode => 'append'")
	dbtest.Exec(t, pool, "create table orders (id integer)")
	dbtest.Exec(t, pool, `
		create function fail() returns trigger language plpgsql as $$
		begin
			if new.id = 13 then
				raise exception using errcode = 'XX000', message = 'broken';
			end if;
			return new;
		end $$`)
	dbtest.Exec(t, pool, "create trigger fail before insert on orders for each row execute function fail()")
	inbox := watch(t, pool)
	long := strings.Repeat("x", 240) + "orders.csv"
	write(t, filepath.Join(inbox, "1-orders.csv"), "id\n13\n")
	write(t, filepath.Join(inbox, "\xff-orders.csv"), "id\n1\n")
	write(t, filepath.Join(inbox, long), "id\n2\n")
	write(t, filepath.Join(inbox, "4-orders.csv"), "id\n3\n")
	awaitMoved(t, inbox, "done", "4-orders.csv", 1)
	awaitMoved(t, inbox, "done", long[50:], 1)
	awaitMoved(t, inbox, "failed", "1-orders.csv", 1)
	awaitMoved(t, inbox, "failed", "_-orders.csv", 1)
	if got := dbtest.Value[string](t, pool, "select string_agg(id::text, ',' order by id) from orders"); got != "2,3" {
		t.Errorf("the table has %s", got)
	}
}
