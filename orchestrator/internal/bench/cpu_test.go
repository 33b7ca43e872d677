//go:build bench

package bench

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// ticksPerSecond is the kernel's unit of CPU time in /proc: 100 wherever Go runs on Linux.
const ticksPerSecond = 100

// cpuOf is the CPU time in seconds that a server has used: its postmaster counts the processes that have ended.
func cpuOf(t *testing.T, url string) float64 {
	t.Helper()
	data, err := exec.CommandContext(t.Context(), "psql", url, "-XAtqc", "show data_directory").Output()
	if err != nil {
		t.Fatal(err)
	}
	folder, err := os.Stat(strings.TrimSpace(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	ticks := 0
	for _, process := range processes {
		// A process that has ended meanwhile has neither file.
		if cwd, err := os.Stat(process + "/cwd"); err != nil || !os.SameFile(cwd, folder) {
			continue
		}
		text, _ := os.ReadFile(process + "/stat")
		// After the name, in parentheses, come the fields. From the 12th on they are: user, system, and both
		// of the children.
		_, after, _ := strings.Cut(string(text), ") ")
		if fields := strings.Fields(after); len(fields) > 14 {
			for _, field := range fields[11:15] {
				number, err := strconv.Atoi(field)
				if err != nil {
					t.Fatal(err)
				}
				ticks += number
			}
		}
	}
	return float64(ticks) / ticksPerSecond
}
