package upload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/lib/pq"
	"golang.org/x/text/unicode/norm"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/records"
)

// A namedReader reads the records of a file whose format names the columns. A CSV file has another way: see readHeader.
type namedReader interface {
	// Next returns a record with a field for each of Columns, io.EOF after the last, or an error of which each
	// UserError is for the user. The memory of a record is used again for the next.
	Next() (*records.Record, error)
	// Columns are those of the records so far, by first appearance. Next may add some at the end.
	Columns() []records.Column
	// Grows reports whether a record may lack columns, which are NULL in it then, and bring others.
	Grows() bool
	Close() error
}

// A Format is a way of writing a table in a file.
type Format struct {
	// Name is its value of the option format, Label what people call it.
	Name, Label string
	// Endings are those of the names of such files, before those of PackedEndings.
	Endings []string
	// IsReadFromEnd means that nothing of such a file can be read before all of it is there.
	IsReadFromEnd bool
}

type fileFormat struct {
	Format
	// isIt reports whether a file is written in this way, by the beginning of its text, and by the format that its name
	// has the ending of. The first format that says so is taken.
	isIt func(sample []byte, named string) bool
	// open is nil for CSV, and for a zip.
	open func(text io.Reader, request Request) (namedReader, error)
	// without are the options that mean nothing in such a file.
	without []string
}

// sheetOption is one that only workbooks have.
const sheetOption = "sheet"

// fileFormats are all formats, and CSV as the last.
func fileFormats() []fileFormat {
	ofRows := []string{"header", "columns", "skip", "skip_after_header", "skip_end", "comment"}
	ofText := []string{"delimiter", "quote", "escape"}
	ofLines := slices.Concat(ofRows, ofText, []string{sheetOption})
	return []fileFormat{
		{Format{linesFormat, "JSON lines", []string{".jsonl", ".ndjson"}, false}, isJSONLines, openJSONLines, ofLines},
		{Format{listFormat, "JSON", []string{".json"}, false}, isJSON, openJSONList, ofLines},
		{Format{"parquet", "Parquet", []string{".parquet"}, true}, isParquet, openParquet, append(ofLines, "encoding")},
		{Format{workbookFormat, "an Excel workbook", []string{".xlsx", ".xlsm"}, true}, isWorkbook, nil, append(ofText, "encoding")},
		{Format{zipFormat, "zip", []string{".zip"}, true}, isZip, nil, nil},
		{Format{"csv", "CSV", []string{".csv", ".tsv", ".txt"}, false}, func([]byte, string) bool { return true }, nil, []string{sheetOption}},
	}
}

// Formats are all formats, CSV first.
func Formats() []Format {
	all := fileFormats()
	formats := []Format{all[len(all)-1].Format}
	for _, format := range all[:len(all)-1] {
		format.Label = strings.TrimPrefix(format.Label, "an ")
		formats = append(formats, format.Format)
	}
	return formats
}

// PackedEndings are those of compressed files.
func PackedEndings() []string { return []string{".gz", ".zst", ".bz2"} }

// formatNames are the values of the option format.
func formatNames() []string {
	var names []string
	for _, format := range fileFormats() {
		names = append(names, format.Name)
	}
	return names
}

// namedFormat is the format that the name of a file has the ending of; empty for none.
func namedFormat(name string) string {
	name = strings.ToLower(name)
	for _, packed := range PackedEndings() {
		name = strings.TrimSuffix(name, packed)
	}
	for _, format := range fileFormats() {
		if slices.ContainsFunc(format.Endings, func(ending string) bool { return strings.HasSuffix(name, ending) }) {
			return format.Name
		}
	}
	return ""
}

// zipFormat is that of several files in one.
const zipFormat = "zip"

// findFormat finds in which format a file is, unless that is given: of a zip, the given format is that of the files in it.
func findFormat(sample []byte, name, given string, isInZip bool) (fileFormat, error) {
	formats := fileFormats()
	found := slices.IndexFunc(formats, func(format fileFormat) bool { return format.isIt(sample, namedFormat(name)) })
	isZipped := formats[found].Name == zipFormat
	if given == "" || isZipped || given == zipFormat && isInZip {
		return formats[found], nil
	}
	at := slices.IndexFunc(formats, func(format fileFormat) bool { return format.Name == given })
	if at < 0 {
		return fileFormat{}, badOption("format", given, "Write "+strings.Join(formatNames(), " or ")+".")
	}
	return formats[at], nil
}

// checkOptions refuses options that mean nothing for a format.
func (r *Request) checkOptions(format fileFormat) error {
	for _, name := range r.given {
		if slices.Contains(format.without, name) {
			hint := "Leave it out."
			if name != sheetOption {
				hint += " If the file is CSV, say so (--format csv)."
			}
			return &db.UserError{
				Status:  http.StatusUnprocessableEntity,
				Code:    "TD007",
				Message: fmt.Sprintf("%s is no option for %s", name, format.Label),
				Hint:    hint,
			}
		}
	}
	return nil
}

// openNamed reads the first record of a file that names its columns.
func (l *loader) openNamed(ctx context.Context, format fileFormat, text io.Reader) (Dialect, error) {
	var err error
	if l.named, err = format.open(text, l.request); err != nil {
		return Dialect{}, err
	}
	l.closers = append(l.closers, l.named)
	l.ahead, err = l.named.Next()
	l.header = nil
	for _, column := range l.named.Columns() {
		l.header = append(l.header, column.Name)
	}
	if errors.Is(err, io.EOF) {
		err = l.keepColumns(ctx)
	}
	l.width = len(l.header)
	if err == nil && l.width == 0 {
		return Dialect{}, &db.UserError{
			Status:  http.StatusUnprocessableEntity,
			Code:    "TD005",
			Message: "the file has no records",
			Hint:    "Choose a file with at least one.",
		}
	}
	if err != nil {
		return Dialect{}, explainRecord(err)
	}
	return Dialect{Format: format.Name, Encoding: "UTF8"}, nil
}

// keepColumns gives a file that names no columns, because it has no records, those of the table that it goes into.
func (l *loader) keepColumns(ctx context.Context) error {
	if len(l.header) > 0 {
		return nil
	}
	options, err := marshalNames(l.request.Shape)
	if err != nil {
		return err
	}
	return l.conn.QueryRowContext(ctx, "select tinydevcrm._list_kept_columns($1, $2, $3, $4)",
		l.request.Source, l.request.Table, l.request.Mode, options).Scan(pq.Array(&l.header))
}

// placeColumns finds places for columns that the file has named since, and adds those that are new.
func (l *loader) placeColumns() error {
	if l.named == nil || len(l.named.Columns()) == len(l.series.places) {
		return nil
	}
	s := &l.series
	columns := l.named.Columns()
	for _, column := range columns[len(s.places):] {
		place := s.find(column.Name)
		switch {
		case place >= 0:
			delete(s.awaited, place)
		case s.isLater && l.request.Shape["new_columns"] == "ignore":
		case s.isLater && l.request.Shape["new_columns"] == "refuse":
			return s.differs([]string{fmt.Sprintf("%q: not in the files before it", column.Name)})
		default:
			place = len(s.header)
			s.header = append(s.header, column.Name)
		}
		s.places = append(s.places, place)
	}
	l.width = len(columns)
	l.growTable()
	return nil
}

// growTable adds the columns that the header has beyond the table. The database adds them when the chunk is sent.
func (l *loader) growTable() {
	l.table.grow(len(l.series.header))
	l.table.chunk.grow(len(l.series.header))
}

// find returns the column of that name that has no place among those of the file yet; -1 when there is none.
func (s *series) find(name string) int {
	name = norm.NFC.String(name)
	for place, other := range s.header {
		if norm.NFC.String(other) == name && !(s.fileColumn != "" && place == s.filePlace) && !slices.Contains(s.places, place) {
			return place
		}
	}
	return -1
}

// awaitColumns adds columns that the request names and that no record has had yet: a later one may.
func (l *loader) awaitColumns() {
	if l.named == nil || !l.named.Grows() {
		return
	}
	s := &l.series
	for _, name := range slices.Concat(slices.Sorted(maps.Keys(l.request.Types)), l.request.Key) {
		if !slices.Contains(s.header, name) {
			if s.awaited == nil {
				s.awaited = make(map[int]string)
			}
			s.awaited[len(s.header)] = name
			s.header = append(s.header, name)
		}
	}
	l.growTable()
}

// checkAwaited refuses names in the request that are those of no column.
func (s *series) checkAwaited() error {
	for _, name := range s.awaited {
		return &db.UserError{
			Status:  http.StatusUnprocessableEntity,
			Code:    "TD007",
			Message: fmt.Sprintf("the file has no column %q", name),
			Hint:    "Correct the name (--type, --key).",
		}
	}
	return nil
}

// noteJSON notes, of the file that is read, which columns have had JSON, and which other values: all those of a CSV file.
func (l *loader) noteJSON() {
	if l.records != nil {
		for at := range l.width {
			if l.series.places != nil {
				at = l.series.places[at]
			}
			if at >= 0 {
				l.table.contents[at].hasOther = true
			}
		}
	}
	if l.named == nil {
		return
	}
	for i, column := range l.named.Columns() {
		if i < len(l.series.places) && l.series.places[i] >= 0 {
			at := &l.table.contents[l.series.places[i]]
			at.hasJSON = at.hasJSON || column.HasJSON
			at.hasOther = at.hasOther || column.HasOther
		}
	}
}

// maxName is the length of the names of columns. A longer one in the file is not that of the column.
const maxName = 63

// beginTypes has the columns of the first file begin with the types that it declares. Values that do not fit widen them
// as in each file.
func (l *loader) beginTypes() {
	if l.named == nil {
		return
	}
	for i, column := range l.named.Columns() {
		if mask := l.table.ladder.from(column.Type); mask != 0 {
			l.table.fits[i] = mask
		} else if column.Type != "" {
			// Only that type is looked at.
			l.table.fits[i] = l.table.ladder.set.Any()
		}
		l.table.declared = append(l.table.declared, column.Type != "" && l.request.Types[column.Name] == "")
	}
}

// declaredTypes are the types that the file declares, but for columns to which the request gives one.
func (l *loader) declaredTypes() map[string]string {
	if l.named == nil {
		return l.request.Types
	}
	count := make(map[string]int)
	for _, name := range l.series.header {
		count[name]++
	}
	types := make(map[string]string)
	for _, column := range l.named.Columns() {
		// The ladder begins with the other types: see beginTypes.
		isOnLadder := l.table.ladder.from(column.Type) != 0
		if column.Type != "" && !isOnLadder && count[column.Name] == 1 && len(column.Name) <= maxName {
			types[column.Name] = column.Type
		}
	}
	maps.Copy(types, l.request.Types)
	return types
}
