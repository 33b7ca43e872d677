//go:build bench

package bench

import (
	"fmt"
	"strconv"
)

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
	coordinator = cpuOf(c.t, c.script("citus", "url", "0"))
	for worker := 1; worker <= citusWorkers; worker++ {
		workers += cpuOf(c.t, c.script("citus", "url", strconv.Itoa(worker)))
	}
	return coordinator, workers
}

// printShare prints the CPU time with four workers as fractions of what the plain table costs its server.
func (c *citus) printShare(words, way string) {
	base := way + "_plain coordinator"
	fmt.Printf("%-44s %6.2f times on the coordinator, %.2f on the workers\n", words,
		c.ratio(way+"_4 coordinator", base), c.ratio(way+"_4 workers", base))
}
