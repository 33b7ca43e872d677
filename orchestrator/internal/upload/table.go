package upload

import (
	"bytes"
	"context"
	"database/sql"
	"math/bits"
	"sort"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/patterns"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/records"
)

// unseen is the bit in a column's mask that is set until the column has a value. No pattern has it.
const unseen patterns.Mask = 1 << (patterns.MaxPatterns - 1)

// A ladder is tinydevcrm.csv_types: the patterns, and the rank of each.
type ladder struct {
	set   *patterns.Set
	ranks []int64
	names []string // of the types
}

func readLadder(ctx context.Context, conn *sql.Conn) (*ladder, error) {
	type rung struct {
		rank    int64
		pattern patterns.Pattern
		name    string
	}
	rungs, err := db.Collect(ctx, conn, "read csv_types",
		func(r *rung) []any { return []any{&r.rank, &r.pattern.Accepts, &r.pattern.MaxLength, &r.name} }, `
		select rank, coalesce(accepts, ''), coalesce(max_length, 0), type_name
		  from tinydevcrm.csv_types
		 order by rank`)
	if err != nil {
		return nil, err
	}
	var l ladder
	var all []patterns.Pattern
	for _, r := range rungs {
		l.ranks = append(l.ranks, r.rank)
		l.names = append(l.names, r.name)
		all = append(all, r.pattern)
	}
	l.set, err = patterns.Compile(all)
	return &l, err
}

// maskOf is the mask of the pattern at a rank; 0 when there is none.
func (l *ladder) maskOf(rank *int64) patterns.Mask {
	for i, p := range l.ranks {
		if rank != nil && p == *rank {
			return 1 << i
		}
	}
	return 0
}

// A table holds what is known of the columns, and the records that are not sent yet.
type table struct {
	ladder *ladder
	nulls  []string
	// isQuotedEmptyNull and isTrimmed are those of the request.
	isQuotedEmptyNull, isTrimmed bool
	// fits are, for each column, the patterns that accept every value so far.
	fits []patterns.Mask
	// misfits are, for each column, the value for which it last lost its first pattern.
	misfits []Misfit
	// stored is, for each column, the pattern that stored values must match; 0 means any value.
	stored []patterns.Mask
	// lines are records in COPY's text format.
	lines []byte
	rows  int64
	// places say on which lines of the file rows are: one place where that is other than for the row before.
	places []place
	file   string // that is read; empty for the first
}

// A place says that a row and those after it are so many lines further down in the file.
type place struct {
	row, offset int64
	file        string // empty for the first
}

// maxPlaces bounds the memory for places. Beyond it, rows have no known line.
const maxPlaces = 100_000

// lineOf is the line of the file on which a row begins, both from 1; 0 when it is not known. The first file has no
// name.
func (t *table) lineOf(row int64) (file string, line int64) {
	at := sort.Search(len(t.places), func(i int) bool { return t.places[i].row > row }) - 1
	if at < 0 || at == maxPlaces-1 {
		return "", 0
	}
	return t.places[at].file, row + t.places[at].offset
}

func (t *table) notePlace(line int64) {
	offset := line - t.rows
	last := len(t.places) - 1
	isOther := last < 0 || t.places[last].offset != offset || t.places[last].file != t.file
	if isOther && len(t.places) < maxPlaces {
		t.places = append(t.places, place{t.rows, offset, t.file})
	}
}

// grow adds columns.
func (t *table) grow(width int) {
	for len(t.fits) < width {
		t.fits = append(t.fits, ^patterns.Mask(0))
		t.misfits = append(t.misfits, Misfit{})
		t.stored = append(t.stored, 0)
	}
}

// ranks are, for each column, the first rank that accepts all its values; NULL when there is none.
func (t *table) ranks() any {
	all := make([]sql.Null[int64], len(t.fits))
	for column := range t.fits {
		if i := t.first(column); i >= 0 {
			all[column] = sql.Null[int64]{V: t.ladder.ranks[i], Valid: true}
		}
	}
	return pq.Array(all)
}

// first is the index of the first pattern that accepts all values of a column; -1 when there is none.
func (t *table) first(column int) int {
	fits := t.fits[column]
	if fits&unseen != 0 {
		return -1
	}
	return bits.TrailingZeros64(uint64(fits))
}

// narrow keeps those patterns of a column that accept a further value.
func (t *table) narrow(column int, kept patterns.Mask, line int64, text []byte) {
	before := t.first(column)
	t.fits[column] = kept
	if before >= 0 && t.first(column) != before {
		t.misfits[column] = Misfit{Type: t.ladder.names[before], File: t.file, Line: line, Value: excerptOf(text, shownSample)}
	}
}

// misfit is the value because of which a column has this type and no narrower one; nil when there is none.
func (t *table) misfit(column int, typeName string) *Misfit {
	now := t.first(column)
	if now < 0 || t.ladder.names[now] != typeName || t.misfits[column].Line == 0 ||
		t.misfits[column].Type == typeName {
		return nil
	}
	return &t.misfits[column]
}

// isMisfit reports whether the lines have values that their columns cannot store.
func (t *table) isMisfit() bool {
	for column, stored := range t.stored {
		if t.fits[column]&stored == 0 && stored != 0 {
			return true
		}
	}
	return false
}

// add adds a record to the lines. Columns that it lacks are NULL.
func (t *table) add(record *records.Record) {
	anyText := t.ladder.set.Any()
	for column, fits := range t.fits {
		if column > 0 {
			t.lines = append(t.lines, '\t')
		}
		if column >= len(record.Fields) {
			t.lines = append(t.lines, `\N`...)
			continue
		}
		field := &record.Fields[column]
		if t.isTrimmed && !field.IsQuoted {
			field.Text = bytes.TrimSpace(field.Text)
		}
		if (len(field.Text) == 0 || t.nulls != nil) && t.isNull(field) {
			t.lines = append(t.lines, `\N`...)
			continue
		}
		if fits != anyText {
			if kept := fits & t.ladder.set.Match(field.Text); kept != fits {
				t.narrow(column, kept, record.Line, field.Text)
			}
		}
		t.lines = appendEscaped(t.lines, field.Text)
	}
	t.lines = append(t.lines, '\n')
	t.rows++
	t.notePlace(record.Line)
}

func (t *table) isNull(field *records.Field) bool {
	switch {
	case len(field.Text) == 0:
		return !field.IsQuoted || t.isQuotedEmptyNull
	case field.IsQuoted:
		return false
	}
	for _, null := range t.nulls {
		if string(field.Text) == null {
			return true
		}
	}
	return false
}

// appendEscaped writes a value in COPY's text format.
func appendEscaped(lines, text []byte) []byte {
	from := 0
	for at, b := range text {
		var escaped byte
		switch b {
		case '\\':
			escaped = '\\'
		case '\t':
			escaped = 't'
		case '\n':
			escaped = 'n'
		case '\r':
			escaped = 'r'
		default:
			continue
		}
		lines = append(lines, text[from:at]...)
		lines = append(lines, '\\', escaped)
		from = at + 1
	}
	return append(lines, text[from:]...)
}
