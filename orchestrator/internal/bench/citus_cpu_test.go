//go:build bench

package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// ticksPerSecond is the kernel's unit of CPU time in /proc: 100 wherever Go runs on Linux.
const ticksPerSecond = 100

// measureWork measures the CPU time of a copy and of the refreshes after it, on a plain table and on four
// workers.
func (c *citus) measureWork() {
	c.t.Helper()
	all := placements()
	for _, on := range []placement{all[0], all[len(all)-1]} {
		c.empty(on)
		c.work("copy_"+on.name, func() { c.copy(on) })
		c.query("vacuum analyze on_" + on.name)
		for _, view := range []string{"few", "many"} {
			c.work(view+"_"+on.name, func() { c.refresh(view, on) })
		}
	}
}

// work records the seconds of CPU that a run takes on the coordinator, and on all workers.
func (c *citus) work(way string, run func()) {
	c.t.Helper()
	coordinator, workers := c.cpu()
	run()
	coordinatorAfter, workersAfter := c.cpu()
	c.times[way+" coordinator"] = append(c.times[way+" coordinator"], coordinatorAfter-coordinator)
	c.times[way+" workers"] = append(c.times[way+" workers"], workersAfter-workers)
}

// cpu is the CPU time that the nodes have used so far.
func (c *citus) cpu() (coordinator, workers float64) {
	c.t.Helper()
	coordinator = c.cpuOf(0)
	for worker := 1; worker <= citusWorkers; worker++ {
		workers += c.cpuOf(worker)
	}
	return coordinator, workers
}

// cpuOf is the CPU time that a node has used: its postmaster counts the processes that have ended.
func (c *citus) cpuOf(node int) float64 {
	c.t.Helper()
	data := c.run("psql", c.script("citus", "url", strconv.Itoa(node)), "-XAtqc", "show data_directory")
	folder, err := os.Stat(data)
	if err != nil {
		c.t.Fatal(err)
	}
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		c.t.Fatal(err)
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
					c.t.Fatal(err)
				}
				ticks += number
			}
		}
	}
	return float64(ticks) / ticksPerSecond
}

// printShare prints the CPU time with four workers as fractions of what the plain table costs its server.
func (c *citus) printShare(words, way string) {
	base := way + "_plain coordinator"
	fmt.Printf("%-44s %6.2f times on the coordinator, %.2f on the workers\n", words,
		c.ratio(way+"_4 coordinator", base), c.ratio(way+"_4 workers", base))
}
