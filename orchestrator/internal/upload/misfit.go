package upload

import (
	"math/bits"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/patterns"
)

// A Misfit is the first value that does not fit the type of all values before it.
type Misfit struct {
	Type string `json:"type"`
	// File is empty for the first file.
	File  string `json:"file,omitempty"`
	Line  int64  `json:"line"`
	Value string `json:"value"`

	// next is the type that the value and those before it fit.
	next string
}

// misfits are, for each column, the last value of the chunk that changed its type; nil for none.
func (t *table) misfits() []*Misfit {
	c := t.chunk
	found := make([]*Misfit, c.width)
	if c.width == 0 {
		return found
	}
	fits := make([]patterns.Mask, c.width)
	before := t.rows - int64(len(c.ends)/c.width)
	start := 0
	for at, end := range c.ends {
		if end == isNull {
			continue
		}
		text, column := c.texts[start:end], at%c.width
		start = end
		old := fits[column]
		if old == t.ladder.set.Any() {
			continue
		}
		matched := t.ladder.set.Match(text)
		if fits[column] = matched & old; old == 0 {
			fits[column] = matched // the first value
			continue
		}
		from, to := t.ladder.nameOf(old), t.ladder.nameOf(fits[column])
		if from != to {
			file, line := t.lineOf(before + int64(at/c.width) + 1)
			found[column] = &Misfit{Type: from, File: file, Line: line, Value: excerptOf(text, shownSample), next: to}
		}
	}
	return found
}

// nameOf is the first type of those that a mask stands for.
func (l *ladder) nameOf(fits patterns.Mask) string {
	return l.names[bits.TrailingZeros64(uint64(fits))]
}
