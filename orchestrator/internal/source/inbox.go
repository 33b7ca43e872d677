package source

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/retry"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
)

const (
	doneFolder, failedFolder = "done", "failed"
	// settledAfter is how long a file has to be of the same size and time.
	settledAfter = 5 * time.Second
	// maxName is how much of a name is kept when a file is moved.
	maxName = 200
	// inboxEvery is how often we look for files.
	inboxEvery = 2 * time.Second
)

// An inbox is a folder of which each file is imported.
type inbox struct {
	*Runner
	root *os.Root
	// seen are the files that are there, by name: what they were when they last changed, and when we saw that.
	seen map[string]*sighting
}

// A sighting is the state of a file, and since when it has it.
type sighting struct {
	state string
	since time.Time
	// written is when the file was, as it says.
	written time.Time
	// failures is how often the server could not import it.
	failures int
}

// errChanged means that a file is not what it was: it is looked at again.
var errChanged = errors.New("the file has changed")

// OnFile has begin called before a file of the inbox is imported, and end after it.
func (r *Runner) OnFile(begin func() (end func())) { r.begin = begin }

// WatchInbox imports the files of a folder until ctx ends. One program watches a folder at a time.
func (r *Runner) WatchInbox(ctx context.Context, folder string) error {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return fmt.Errorf("open the inbox: %w", err)
	}
	defer root.Close()
	for _, sub := range []string{doneFolder, failedFolder} {
		if err := root.Mkdir(sub, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("make the folders of the inbox: %w", err)
		}
	}
	lock, err := root.Open(".")
	if err != nil {
		return fmt.Errorf("open the inbox: %w", err)
	}
	defer lock.Close()
	i := &inbox{Runner: r, root: root, seen: make(map[string]*sighting)}
	isLocked, isFailing := false, false
	for {
		// The lock of a program that is killed ends with it.
		if !isLocked {
			isLocked = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
		}
		if isLocked {
			err := i.look(ctx)
			if err != nil && !isFailing && ctx.Err() == nil {
				r.logger.Warn("cannot import the files of the inbox; trying again", "error", err)
			}
			isFailing = err != nil
		}
		if !retry.Wait(ctx, nil, r.inboxEvery) {
			return nil
		}
	}
}

// look imports the files that have stopped growing.
func (i *inbox) look(ctx context.Context) error {
	entries, err := fs.ReadDir(i.root.FS(), ".")
	if err != nil {
		return fmt.Errorf("read the inbox: %w", err)
	}
	now, seen := time.Now(), make(map[string]*sighting)
	for _, entry := range entries {
		name := entry.Name()
		// Programs write to such a name first, and rename the file at the end. A link may lead elsewhere.
		isPart := strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".part") || strings.HasSuffix(name, ".tmp") || strings.HasSuffix(name, ".filepart")
		if isPart || !entry.Type().IsRegular() {
			continue
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("look at %s: %w", name, err)
		}
		found := &sighting{state: stateOf(info), since: now, written: info.ModTime()}
		if before, isThere := i.seen[name]; isThere && before.state == found.state {
			found = before
		}
		seen[name] = found
	}
	i.seen = seen
	// The newest export of a source is imported last.
	names := slices.SortedFunc(maps.Keys(seen), func(a, b string) int {
		return cmp.Or(seen[a].written.Compare(seen[b].written), strings.Compare(a, b))
	})
	for _, name := range names {
		if now.Sub(seen[name].since) < i.settledAfter {
			continue
		}
		if err := i.handle(ctx, name, seen[name]); err != nil {
			return err
		}
		delete(i.seen, name)
	}
	return nil
}

func stateOf(info fs.FileInfo) string {
	return fmt.Sprintf("%s:%d:%d", info.Name(), info.Size(), info.ModTime().UnixNano())
}

// maxFailures is how often the server may fail at a file that it cannot import, before the files behind it come.
const maxFailures = 5

// handle imports a file and moves it. It returns an error when the server is at fault: the file stays.
func (i *inbox) handle(ctx context.Context, name string, found *sighting) error {
	defer i.begin()()
	err := i.importNamed(ctx, name, found.state)
	if err == nil {
		i.logger.Info("a file of the inbox was imported", "file", name)
		return i.move(name, doneFolder, "")
	}
	if errors.Is(err, errChanged) {
		return nil
	}
	problem := db.Explain(err)
	if problem.Code != "" && (problem.Status == http.StatusInternalServerError || problem.Status == http.StatusGatewayTimeout) {
		found.failures++
	}
	if problem.Status >= 500 && found.failures < maxFailures || ctx.Err() != nil {
		return err
	}
	i.logger.Warn("a file of the inbox could not be imported", "file", name, "error", err)
	return i.move(name, failedFolder, problem.String())
}

// importNamed imports a file as its source says, or into a new table of its name.
func (i *inbox) importNamed(ctx context.Context, name, state string) error {
	if !utf8.ValidString(name) {
		return refusal("the name of the file is not UTF-8")
	}
	// What has become a pipe meanwhile does not hold us up.
	opened, err := i.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return errChanged
	}
	if err != nil {
		return refusal(err.Error())
	}
	defer opened.Close()
	isSame := func() error {
		if info, err := opened.Stat(); err != nil || !info.Mode().IsRegular() || stateOf(info) != state {
			return errChanged
		}
		return nil
	}
	if err := isSame(); err != nil {
		return err
	}
	runs, err := db.Collect(ctx, i.pool, "take a file", (*run).fields, `
		select described.id, described.owner, described.attempt, described.source, described.url, described.headers, described.etag,
		       described.last_modified, described.is_own, described.schema_name, described.table_name, described.mode,
		       described.key, described.options
		  from tinydevcrm._take_file($1) as taken
		 cross join lateral tinydevcrm._describe_run(taken) as described`, name)
	if err != nil {
		return err
	}
	if len(runs) == 0 {
		return i.importAlone(ctx, opened, name, state, isSame)
	}
	taken := &runs[0]
	// A program that was killed had imported it, and not moved it.
	if taken.etag.Valid && taken.etag.V == state {
		return i.exec(ctx, "select tinydevcrm._note_unchanged($1, $2)", taken.id, taken.attempt)
	}
	request, err := i.request(taken, name, state, "")
	if err == nil {
		_, err = upload.Load(ctx, i.pool, opened, whileSame(request, isSame))
	}
	problem := db.Explain(err)
	if err == nil || errors.Is(err, errChanged) || ctx.Err() != nil || problem.Status >= 500 {
		return err
	}
	return errors.Join(err, i.exec(ctx, "select tinydevcrm._fail_run($1, $2, $3, $4, true)", taken.id, taken.attempt, problem.Code, problem.String()))
}

// importAlone imports a file that has no source.
func (i *inbox) importAlone(ctx context.Context, opened io.Reader, name, state string, isSame func() error) error {
	isImported, err := db.Collect(ctx, i.pool, "look for an import", func(is *bool) []any { return []any{is} },
		"select tinydevcrm._is_file_imported($1)", state)
	if err != nil || isImported[0] {
		return err
	}
	request, err := upload.NewRequest(name, nil)
	if err != nil {
		return err
	}
	request.Finish = func(ctx context.Context, conn *sql.Conn, done upload.Import) error {
		_, err := conn.ExecContext(ctx, "select tinydevcrm._note_file($1, $2)", done.ID, state)
		return err
	}
	_, err = upload.Load(ctx, i.pool, opened, i.bounded(whileSame(request, isSame)))
	return err
}

// whileSame is request, which commits only if the file has not changed.
func whileSame(request upload.Request, isSame func() error) upload.Request {
	finish := request.Finish
	request.Finish = func(ctx context.Context, conn *sql.Conn, done upload.Import) error {
		if err := isSame(); err != nil {
			return err
		}
		return finish(ctx, conn, done)
	}
	return request
}

func refusal(reason string) error { return &db.UserError{Status: 422, Code: "TD005", Message: reason} }

// move moves a file out of the way, with a reason beside it.
func (i *inbox) move(name, folder, reason string) error {
	// With the time before it, and the reason's ending, a name must not become too long.
	kept := strings.ToValidUTF8(name[max(len(name)-maxName, 0):], "_")
	to := path.Join(folder, time.Now().UTC().Format("20060102T150405.000Z-")+kept)
	if err := i.root.Rename(name, to); err != nil {
		return fmt.Errorf("move %s: %w", name, err)
	}
	if reason == "" {
		return nil
	}
	file, err := i.root.Create(to + ".reason.txt")
	if err != nil {
		return fmt.Errorf("write why %s failed: %w", name, err)
	}
	defer file.Close()
	if _, err := io.WriteString(file, reason+"\n"); err != nil {
		return fmt.Errorf("write why %s failed: %w", name, err)
	}
	return nil
}
