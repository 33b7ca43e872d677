//go:build bench

package bench

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A loading is a way to load a file, which leaves its rows in a table of the way's name.
type loading struct {
	name, words string
	base        string // the way that it is compared with
	run         func()
}

// TestImport is scripts/bench import [ROWS [RUNS]]: an import, compared with psql's \copy into a table with the
// same types; and csvsql, pgloader and DuckDB, where they are installed. Also a file of 300 columns with a twentieth of
// the rows, and one of a single column with ten times as many; and the same rows as JSON lines and as Parquet, and a
// fifth of them as a workbook, compared with the import of the CSV.
func TestImport(t *testing.T) {
	rows, runs := sizeOf(t, 1_000_000), runsOf(t)
	b := newBench(t)

	say("Writing %d rows", rows)
	b.generate(rows, "plain.csv")
	b.surprise("na.csv", rows, "n/a")
	b.surprise("zeros.csv", rows*9/10, "007")
	b.write("wide.csv", fmt.Sprintf("select %s from generate_series(1, %d) as i", strings.Join(slices.Repeat([]string{
		"i * 7 as n, 'word' || i % 1000 as t, date '2001-01-01' + i % 9000 as d, i / 8.0 as a"}, 75), ", "), rows/20))
	b.write("narrow.csv", fmt.Sprintf("select i from generate_series(1, %d) as i", rows*10))
	for _, name := range []string{"plain", "wide", "narrow"} {
		b.orchestrator("upload", b.path(name+".csv"), "--table", "typed_"+name)
	}
	page := b.serve()
	b.writeFormats(rows, page)
	ways := slices.Concat(b.uploads(page), b.formats(), b.others())
	for run := range runs {
		for _, way := range ways {
			b.clear()
			b.timed(way.name, way.run)
		}
		say("Run %d of %d", run+1, runs)
	}
	for _, way := range ways {
		fmt.Println(b.report(way.words, way.name, way.base))
	}
	b.memory(rows)
	b.memory(rows * 10)
	for _, format := range b.formats() {
		b.clear()
		b.printPeak("peak memory, "+format.words, b.peakOf(b.command(b.binary, "upload", b.path(format.name), "--table", "upload")))
	}
}

// uploads are psql's ways and ours.
func (b *bench) uploads(page string) []loading {
	copied := func(file string) func() {
		return func() { b.copyInto("typed_"+file, file+".csv") }
	}
	uploaded := func(file, table string) func() {
		return func() { b.orchestrator("upload", b.path(file+".csv"), "--table", table) }
	}
	return []loading{
		{"copy", `\copy into a table that has its types`, "copy", copied("plain")},
		{"upload", "orchestrator upload", "copy", uploaded("plain", "upload")},
		{"http", "curl to /upload-file", "copy", func() {
			b.run("curl", "-sf", "-F", "file=@"+b.path("plain.csv"), page+"/upload-file?table=http")
		}},
		{"na", "upload, n/a in the last integer", "copy", uploaded("na", "na")},
		{"zeros", "upload, 007 after nine tenths", "copy", uploaded("zeros", "zeros")},
		{"copy_wide", `\copy of 300 columns`, "copy_wide", copied("wide")},
		{"wide", "upload of 300 columns", "copy_wide", uploaded("wide", "wide")},
		{"copy_narrow", `\copy of one column`, "copy_narrow", copied("narrow")},
		{"narrow", "upload of one column", "copy_narrow", uploaded("narrow", "narrow")},
	}
}

// others are programs that load a CSV file into Postgres, where they are installed.
func (b *bench) others() []loading {
	var installed []loading
	for _, other := range []loading{
		{"csvsql", "csvsql --insert", "copy", func() {
			b.run("csvsql", "--db", "postgresql+psycopg2://"+strings.TrimPrefix(b.url, "postgres://"),
				"--insert", "--tables", "csvsql", b.path("plain.csv"))
		}},
		{"pgloader", "pgloader into a table that has its types", "copy", func() {
			b.run("pgloader", "--type", "csv", "--field", "id,name,email,amount,active,day,seen_at,note",
				"--with", "skip header = 1", "--with", "fields terminated by ','", b.path("plain.csv"),
				"postgresql://unix:"+b.query("select split_part(current_setting('unix_socket_directories'), ',', 1)")+
					b.query("select ':' || current_setting('port') || '/' || current_database()")+"?tablename=public.typed_plain")
		}},
		{"duckdb", "DuckDB's create table … as in Postgres", "copy", func() {
			b.run("duckdb", "-c", fmt.Sprintf("install postgres; load postgres; attach '%s' as server (type postgres); "+
				"create table server.duckdb as from read_csv('%s')", b.url, b.path("plain.csv")))
		}},
	} {
		if _, err := exec.LookPath(other.name); err == nil {
			installed = append(installed, other)
		}
	}
	return installed
}

// copyInto loads a file with psql.
func (b *bench) copyInto(table, file string) {
	b.t.Helper()
	b.run("psql", b.url, "-Xqc", fmt.Sprintf(`\copy %s from '%s' csv header`, table, b.path(file)))
}

// clear empties the tables for the next run, and makes the server finish writing.
func (b *bench) clear() {
	b.t.Helper()
	b.query("truncate typed_plain, typed_wide, typed_narrow; " +
		"drop table if exists upload, http, na, zeros, wide, narrow, csvsql, duckdb, format; checkpoint")
}

// write writes the rows of a query into a file.
func (b *bench) write(name, query string) {
	b.t.Helper()
	b.run("psql", b.url, "-XAtqc", fmt.Sprintf(`\copy (%s) to '%s' csv header`, query, b.path(name)))
}

// generator writes rows of eight columns: integer, quoted text with commas, e-mail, numeric, boolean, date,
// timestamp, and text with quotes in it.
func (b *bench) generator(rows int, to io.Writer) *exec.Cmd {
	command := b.command("psql", b.url, "-XAtqc", fmt.Sprintf(`copy (
		select i as id,
		       format('Last%%s, First %%s', i %% 5000, i %% 777) as name,
		       format('user%%s@example.com', i) as email,
		       round((i %% 1000000) / 7.0, 2) as amount,
		       case when i %% 3 = 0 then 'true' else 'false' end as active,
		       (date '2001-01-01' + i %% 9000) as day,
		       (timestamp '2001-01-01' + i * interval '61 seconds')::timestamp(0) as seen_at,
		       format('said "word%%s" and went on with %%s', i %% 999, i * 7) as note
		  from generate_series(1, %d) as i
	) to stdout (format csv, header)`, rows))
	command.Stdout, command.Stderr = to, os.Stderr
	return command
}

// generate writes such rows into a file.
func (b *bench) generate(rows int, name string) {
	b.t.Helper()
	file, err := os.Create(b.path(name))
	if err != nil {
		b.t.Fatal(err)
	}
	defer file.Close()
	if err := b.generator(rows, file).Run(); err != nil {
		b.t.Fatal(err)
	}
	if information, err := file.Stat(); err == nil {
		say("%d bytes", information.Size())
	}
}

// surprise writes plain.csv with another id in one of its rows, which begin with 1.
func (b *bench) surprise(name string, row int, id string) {
	b.t.Helper()
	text, err := os.ReadFile(b.path("plain.csv"))
	if err != nil {
		b.t.Fatal(err)
	}
	number := strconv.Itoa(row)
	changed := bytes.Replace(text, []byte("\n"+number+","), []byte("\n"+id+","), 1)
	if bytes.Equal(changed, text) {
		b.t.Fatalf("plain.csv has no row %s", number)
	}
	if err := os.WriteFile(b.path(name), changed, 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// memory prints the peak memory of an import of so many rows.
func (b *bench) memory(rows int) {
	b.t.Helper()
	b.clear()
	from, to, err := os.Pipe()
	if err != nil {
		b.t.Fatal(err)
	}
	writer, upload := b.generator(rows, to), b.command(b.binary, "upload", "-", "--table", "upload")
	upload.Stdin = from
	if err := writer.Start(); err != nil {
		b.t.Fatal(err)
	}
	peak := b.peakOf(upload, from, to)
	if err := writer.Wait(); err != nil {
		b.t.Fatal(err)
	}
	b.printPeak(fmt.Sprintf("peak memory at %d rows", rows), peak)
}

func (b *bench) printPeak(words string, kilobytes int) {
	fmt.Printf("%-44s %8d MB\n", words, kilobytes/1024)
}

// peakOf runs the program and returns its peak resident memory in kB, as the kernel counts it while the program runs. What
// the kernel reports after its end would include our memory. The pipes are closed after the start: each process has its
// own end then, and the reader waits for the last one that could write.
func (b *bench) peakOf(upload *exec.Cmd, pipes ...*os.File) (peak int) {
	b.t.Helper()
	upload.Stderr = os.Stderr
	if err := upload.Start(); err != nil {
		b.t.Fatal(err)
	}
	for _, pipe := range pipes {
		pipe.Close()
	}
	ended := make(chan error, 1)
	go func() { ended <- upload.Wait() }()
	for {
		select {
		case err := <-ended:
			if err != nil {
				b.t.Fatalf("upload: %v", err)
			}
			return peak
		case <-time.After(100 * time.Millisecond):
			peak = max(peak, peakMemory(upload.Process.Pid))
		}
	}
}

// peakMemory is that of a process in kB; 0 when it has ended.
func peakMemory(pid int) int {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	var kilobytes int
	if _, line, found := strings.Cut(string(text), "\nVmHWM:"); found {
		_, _ = fmt.Sscan(line, &kilobytes)
	}
	return kilobytes
}
