//go:build soak

package soak

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// watch measures the steady program and the server.
type watch struct {
	pool   *sql.DB
	steady *program
	folder string
	client *http.Client
}

func newWatch(t *testing.T, pool *sql.DB, steady *program) *watch {
	t.Helper()
	folder := dbtest.Value[string](t, pool, "show data_directory")
	return &watch{pool, steady, folder, &http.Client{Timeout: 5 * time.Second}}
}

// Sizes are counted in kB.
const kB = 1024

// allowanceOf is how much each measure may grow. Small numbers vary with what is running at that moment.
func allowanceOf(name string) allowance {
	switch {
	case strings.HasPrefix(name, "size of "):
		return allowance{0.25, 256, "kB"}
	case strings.HasPrefix(name, "rows of "):
		return allowance{0.25, 50, "rows"}
	}
	switch name {
	case "memory of the program":
		return allowance{0.15, 6 * kB, "kB"}
	case "memory of the server":
		return allowance{0.15, 16 * kB, "kB"}
	case "dead rows":
		return allowance{1, 2000, "rows"}
	case "catalogs":
		return allowance{0.25, kB, "kB"}
	case "WAL":
		return allowance{0.25, 2 * 16 * kB, "kB"}
	case "files of the server":
		// Files of dropped tables, and of each refresh, remain until the next checkpoint.
		return allowance{0.25, 200, "files"}
	case "relations":
		return allowance{0.1, 10, "relations"}
	}
	return allowance{0.1, 8, ""}
}

// wantedMeasures are the measures that must have been taken, and in addition one for each table.
func wantedMeasures() []string {
	return []string{"memory of the program", "files of the program", "goroutines of the program",
		"memory of the server", "files of the server", "connections", "catalogs", "dead rows", "WAL",
		"size of tinydevcrm.matview_refresh_events", "size of cron.job_run_details", "rows of cron.job"}
}

// take measures everything. What cannot be measured, because the server is starting, is not in the sample.
func (w *watch) take(ctx context.Context, at time.Duration) sample {
	values := make(map[string]float64)
	w.lookAtProgram(ctx, values)
	w.lookAtFiles(values)
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if seen, err := w.askServer(ctx); err == nil {
		for name, value := range seen {
			values[name] = value
		}
	}
	return sample{at, values}
}

func (w *watch) lookAtProgram(ctx context.Context, values map[string]float64) {
	pid, isRunning := w.steady.pid()
	if !isRunning {
		return
	}
	if fields, err := procFields(fmt.Sprintf("/proc/%d/status", pid)); err == nil {
		values["memory of the program"] = fields["VmRSS"]
	}
	if open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid)); err == nil {
		values["files of the program"] = float64(len(open))
	}
	if count, err := w.goroutines(ctx); err == nil {
		values["goroutines of the program"] = count
	}
}

// goroutines reads their number from the program's metrics.
func (w *watch) goroutines(ctx context.Context) (float64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, w.steady.page+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	response, err := w.client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, isIt := strings.CutPrefix(line, "go_goroutines "); isIt {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("%s: no go_goroutines", response.Status)
}

// lookAtFiles counts the server's files, and adds up the memory of its processes, which are those that work in
// its data directory. Pss divides shared memory among the processes that share it.
func (w *watch) lookAtFiles(values map[string]float64) {
	var files, temporary float64
	filepath.WalkDir(w.folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil // it was removed just now
		}
		if !entry.IsDir() {
			files++
		}
		if strings.HasPrefix(entry.Name(), "pgsql_tmp") && !entry.IsDir() {
			temporary++
		}
		return nil
	})
	values["files of the server"], values["temporary files"] = files, temporary

	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return
	}
	var memory float64
	for _, process := range processes {
		if folder, err := os.Readlink(process + "/cwd"); err != nil || folder != w.folder {
			continue
		}
		if fields, err := procFields(process + "/smaps_rollup"); err == nil {
			memory += fields["Pss"]
		}
	}
	if memory > 0 {
		values["memory of the server"] = memory
	}
}

// procFields reads the lines "Name:  number kB" of a file.
func procFields(path string) (map[string]float64, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	fields := make(map[string]float64)
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		name, rest, _ := strings.Cut(lines.Text(), ":")
		number, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
		if value, err := strconv.ParseFloat(number, 64); err == nil {
			fields[name] = value
		}
	}
	return fields, lines.Err()
}

// askServer is one query, so that all measures are of the same moment.
func (w *watch) askServer(ctx context.Context) (map[string]float64, error) {
	rows, err := w.pool.QueryContext(ctx, `
		select 'size of ' || pg_class.oid::regclass, pg_total_relation_size(pg_class.oid) / 1024
		  from pg_class
		 where relnamespace in ('tinydevcrm'::regnamespace, 'cron'::regnamespace)
		   and relkind = 'r'
		union all
		select 'catalogs', sum(pg_total_relation_size(pg_class.oid)) / 1024
		  from pg_class
		 where relnamespace = 'pg_catalog'::regnamespace
		   and relkind = 'r'
		union all
		select 'relations', count(*) from pg_class
		union all
		select 'temporary relations', count(*) from pg_class where relpersistence = 't'
		union all
		select 'rows of tinydevcrm.matview_refresh_events', count(*) from tinydevcrm.matview_refresh_events
		union all
		select 'rows of tinydevcrm.deliveries', count(*) from tinydevcrm.deliveries
		union all
		select 'rows of tinydevcrm.imports', count(*) from tinydevcrm.imports
		union all
		select 'rows of cron.job', count(*) from cron.job
		union all
		select 'rows of cron.job_run_details', count(*) from cron.job_run_details
		union all
		select 'job runs without an end', count(*) from cron.job_run_details where end_time is null
		union all
		select 'dead rows', sum(n_dead_tup)
		  from pg_stat_user_tables
		 where schemaname in ('tinydevcrm', 'cron')
		union all
		select 'connections', count(*) from pg_stat_activity where backend_type = 'client backend'
		union all
		select 'connections of the program', count(*) from pg_stat_activity where application_name = 'steady'
		union all
		select 'advisory locks', count(*) from pg_locks where locktype = 'advisory'
		union all
		select 'WAL', sum(size) / 1024 from pg_ls_waldir()`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	values := make(map[string]float64)
	for rows.Next() {
		var name string
		var value float64
		if err := rows.Scan(&name, &value); err != nil {
			return nil, err
		}
		values[name] = value
	}
	return values, rows.Err()
}
