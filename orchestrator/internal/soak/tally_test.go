//go:build soak

package soak

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
)

// A tally counts what was done, and the reasons for what failed.
type tally struct {
	mu     sync.Mutex
	counts map[string]*tallied
}

type tallied struct {
	done   int
	failed map[string]int
}

func newTally() *tally { return &tally{counts: make(map[string]*tallied)} }

func (c *tally) of(what string) *tallied {
	if c.counts[what] == nil {
		c.counts[what] = &tallied{failed: make(map[string]int)}
	}
	return c.counts[what]
}

func (c *tally) add(what string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.of(what).done++
		return
	}
	c.of(what).failed[fmt.Sprintf("%.90s", err)]++
}

// table has one line for each.
func (c *tally) table() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, what := range slices.Sorted(maps.Keys(c.counts)) {
		count := c.counts[what]
		var failures []string
		for _, reason := range slices.Sorted(maps.Keys(count.failed)) {
			failures = append(failures, fmt.Sprintf("%d × %s", count.failed[reason], reason))
		}
		fmt.Fprintf(w, "%s\t%d\t%s\n", what, count.done, strings.Join(failures, "; "))
	}
	w.Flush()
	return text.String()
}
