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
}

// misfits are, for each column of the chunk, the value for which it last lost its narrowest type.
func (t *table) misfits() []Misfit {
	found := make([]Misfit, len(t.fits))
	fits := make([]patterns.Mask, len(t.fits))
	for column := range fits {
		fits[column] = ^patterns.Mask(0)
	}
	set := t.ladder.set
	before := t.rows - int64(len(t.chunk.ends)/max(1, t.chunk.width))
	start := 0
	for i, end := range t.chunk.ends {
		if end == isNull {
			continue
		}
		column, value := i%t.chunk.width, t.chunk.texts[start:end]
		start = end
		was := fits[column]
		if was == set.Any() {
			continue
		}
		fits[column] &= set.Match(value)
		if was&unseen != 0 {
			continue
		}
		// A type has several patterns.
		from, to := t.ladder.names[bits.TrailingZeros64(uint64(was))], t.ladder.names[bits.TrailingZeros64(uint64(fits[column]))]
		if from != to {
			file, line := t.lineOf(before + int64(i/t.chunk.width) + 1)
			found[column] = Misfit{Type: from, File: file, Line: line, Value: excerptOf(value, shownSample)}
		}
	}
	return found
}

// misfitOf is that of a column if the values are why it has this type; nil when they are not.
func (t *table) misfitOf(found []Misfit, column int, typeName string) *Misfit {
	now := -1
	if column < len(t.fits) {
		now = t.first(column)
	}
	if now < 0 || column >= len(found) || t.ladder.names[now] != typeName || found[column].Line == 0 || found[column].Type == typeName {
		return nil
	}
	return &found[column]
}
