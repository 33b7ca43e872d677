package upload

import (
	"context"
	"database/sql"
	"math/bits"
	"slices"
	"sort"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/binary"
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
	// jsonRank is that of jsonb, which only a file's format chooses.
	jsonRank int64
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
		if r.name == "jsonb" {
			l.jsonRank = r.rank
		}
		l.ranks = append(l.ranks, r.rank)
		l.names = append(l.names, r.name)
		all = append(all, r.pattern)
	}
	l.set, err = patterns.Compile(all)
	return &l, err
}

// from is the mask of a type and of all wider ones. It is 0 when the type is not on the ladder, or when the end of the file
// could choose another: text may have a form, and a double that is not a number is none of the ladder's.
func (l *ladder) from(typeName string) patterns.Mask {
	at := slices.Index(l.names, typeName)
	if at < 0 || typeName == "double precision" || typeName == "text" || typeName == "jsonb" {
		return 0
	}
	return (1<<len(l.names) - 1) &^ (1<<at - 1)
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

// A table holds what is known of the columns, and the records that were read last.
type table struct {
	ladder *ladder
	nulls  nulls
	// fits are, for each column, the patterns that accept every value so far.
	fits []patterns.Mask
	// stored is, for each column, the pattern that stored values must match; 0 means any value.
	stored []patterns.Mask
	// contents say, for each column, whether the formats of the files found JSON in it.
	contents []content
	// declared says of columns that their values are those of a type that the first file declares.
	declared []bool
	// codecs are those of the columns whose values the file hands over as it has them.
	codecs []binary.Codec
	// chunk has the records that were read last.
	chunk *chunk
	rows  int64
	// places say on which lines of the file rows are: one place where that is other than for the row before.
	places []place
	file   string // that is read; empty for the first
}

// A content says whether a column has had objects or lists, and whether it has had other values.
type content struct{ hasJSON, hasOther bool }

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
		t.stored = append(t.stored, 0)
		t.contents = append(t.contents, content{})
	}
}

// ranks are, for each column, the first rank that accepts all its values; NULL when there is none.
func (t *table) ranks() any {
	all := make([]sql.Null[int64], len(t.fits))
	for column := range t.fits {
		if found := t.contents[column]; found.hasJSON && !found.hasOther {
			all[column] = sql.Null[int64]{V: t.ladder.jsonRank, Valid: true}
		} else if i := t.first(column); i >= 0 {
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

// isMisfit reports whether there are values that their columns cannot store.
func (t *table) isMisfit() bool {
	for column, stored := range t.stored {
		if t.fits[column]&stored == 0 && stored != 0 {
			return true
		}
	}
	return false
}

// add adds a record to the chunk.
func (t *table) add(record *records.Record) {
	if t.chunk.width == 0 {
		t.chunk.codecs = t.codecs
	}
	t.chunk.add(record, len(t.fits), &t.nulls)
	t.rows++
	t.notePlace(record.Line)
}

// merge notes which patterns accept the values of a chunk.
func (t *table) merge(fits []patterns.Mask) {
	for column, mask := range fits {
		t.fits[column] &= mask
	}
}
