//go:build bench

package bench

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestImport is scripts/bench import [ROWS [RUNS]]: an import, compared with psql's \copy into a table with the
// same types, and with csvsql, where that is installed.
func TestImport(t *testing.T) {
	rows, runs := sizeOf(t, 1_000_000), runsOf(t)
	b := newBench(t)

	say("Writing %d rows", rows)
	b.generate(rows, "plain.csv")
	b.surprise("na.csv", rows, "n/a")
	b.surprise("zeros.csv", rows*9/10, "007")
	b.orchestrator("upload", b.path("plain.csv"), "--table", "typed")
	page := b.serve()

	// Each way leaves its rows in a table of its name.
	ways := []struct {
		name, words string
		run         func()
	}{
		{"copy", `\copy into a table that has its types`, func() { b.copyInto("typed") }},
		{"upload", "orchestrator upload", func() { b.orchestrator("upload", b.path("plain.csv"), "--table", "upload") }},
		{"http", "curl to /upload-file", func() {
			b.run("curl", "-sf", "-F", "file=@"+b.path("plain.csv"), page+"/upload-file?table=http")
		}},
		{"na", "upload, n/a in the last integer", func() { b.orchestrator("upload", b.path("na.csv"), "--table", "na") }},
		{"zeros", "upload, 007 after nine tenths", func() { b.orchestrator("upload", b.path("zeros.csv"), "--table", "zeros") }},
		{"csvsql", "csvsql --insert", func() {
			b.run("csvsql", "--db", "postgresql+psycopg2://"+strings.TrimPrefix(b.url, "postgres://"),
				"--insert", "--tables", "csvsql", b.path("plain.csv"))
		}},
	}
	if _, err := exec.LookPath("csvsql"); err != nil {
		ways = ways[:len(ways)-1]
	}

	for run := range runs {
		for _, way := range ways {
			b.clear()
			b.timed(way.name, way.run)
		}
		say("Run %d of %d", run+1, runs)
	}
	for _, way := range ways {
		fmt.Println(b.report(way.words, way.name, "copy"))
	}
	b.memory(rows)
	b.memory(rows * 10)
}

// copyInto loads plain.csv with psql.
func (b *bench) copyInto(table string) {
	b.t.Helper()
	b.run("psql", b.url, "-Xqc", fmt.Sprintf(`\copy %s from '%s' csv header`, table, b.path("plain.csv")))
}

// clear empties the tables for the next run, and makes the server finish writing.
func (b *bench) clear() {
	b.t.Helper()
	b.query("truncate typed; drop table if exists upload, http, na, zeros, csvsql; checkpoint")
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

// memory prints the peak resident memory of the program itself, as the kernel counts it while the program runs.
// What the kernel reports after its end would include our memory.
func (b *bench) memory(rows int) {
	b.t.Helper()
	b.clear()
	from, to, err := os.Pipe()
	if err != nil {
		b.t.Fatal(err)
	}
	writer, upload := b.generator(rows, to), b.command(b.binary, "upload", "-", "--table", "upload")
	upload.Stdin, upload.Stderr = from, os.Stderr
	for _, command := range []*exec.Cmd{writer, upload} {
		if err := command.Start(); err != nil {
			b.t.Fatal(err)
		}
	}
	// Each process has its own end now. The reader waits for the last one that could write.
	from.Close()
	to.Close()

	ended := make(chan error, 1)
	go func() { ended <- upload.Wait() }()
	peak := 0
	for isRunning := true; isRunning; {
		select {
		case err := <-ended:
			if err != nil {
				b.t.Fatalf("upload: %v", err)
			}
			isRunning = false
		case <-time.After(100 * time.Millisecond):
			peak = max(peak, peakMemory(upload.Process.Pid))
		}
	}
	if err := writer.Wait(); err != nil {
		b.t.Fatal(err)
	}
	fmt.Printf("%-40s %8d MB\n", fmt.Sprintf("peak memory at %d rows", rows), peak/1024)
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
