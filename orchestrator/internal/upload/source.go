package upload

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/dialect"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/records"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/words"
)

// sampleSize is how much of the file shows how it is written.
const sampleSize = 256 << 10

// A Dialect describes how a file is written: tinydevcrm.csv_dialect.
type Dialect struct {
	// Format is one of formatNames. Only CSV has more than that and an encoding.
	Format    string `json:"format"`
	Encoding  string `json:"encoding"`
	Delimiter string `json:"delimiter"`
	Quote     string `json:"quote"`
	Escape    string `json:"escape"`
	LineEnd   string `json:"line_end"`
	HasHeader bool   `json:"has_header"`
	SkipLines int    `json:"skip_lines"`
	// HasBlanks means that blanks stand around quoted fields.
	HasBlanks bool `json:"has_blanks"`
	// Sheet is that of a workbook, Members are the files of a zip that were asked for.
	Sheet   string   `json:"sheet,omitempty"`
	Members []string `json:"members,omitempty"`
	// Warnings are what is a weak guess.
	Warnings []string `json:"-"`
}

// String describes the dialect in one line.
func (d Dialect) String() string {
	for _, format := range fileFormats() {
		if format.Name == d.Format && format.open != nil {
			return format.Label
		}
	}
	header := "with a header"
	if !d.HasHeader {
		header = "without a header"
	}
	if d.SkipLines > 0 {
		header += fmt.Sprintf(" after %s", words.Count(int64(d.SkipLines), "line"))
	}
	if d.Sheet != "" {
		return fmt.Sprintf("workbook, sheet %s, %s", d.Sheet, header)
	}
	delimiter := printableDelimiter(d.Delimiter)
	names := map[string]string{",": "comma", ";": "semicolon", "\t": "tab", " ": "space", ", ": "comma and space"}
	if name, isThere := names[d.Delimiter]; isThere {
		delimiter = name
	}
	quote := "quote " + d.Quote + " doubled within"
	if d.Quote == "" {
		quote = "no quote"
	} else if d.Escape != d.Quote {
		quote = "quote " + d.Quote + " after " + d.Escape + " within"
	}
	return fmt.Sprintf("%s, delimiter %s, %s, lines end in %s, %s",
		d.Encoding, delimiter, quote, d.LineEnd, header)
}

// Label is what people call its format; empty for a table of psql's.
func (d Dialect) Label() string {
	for _, format := range Formats() {
		if format.Name == d.Format {
			return format.Label
		}
	}
	return ""
}

// printableDelimiter spells characters that a terminal does not show.
func printableDelimiter(delimiter string) string {
	quoted := strconv.Quote(delimiter)
	return quoted[1 : len(quoted)-1]
}

// sniff finds how the file is written, where request does not say it.
func sniff(sample []byte, request Request) (Dialect, error) {
	found, err := dialect.Find(sample, dialect.Given{
		Encoding:  request.Encoding,
		Delimiter: request.Delimiter,
		Quote:     request.Quote,
		Escape:    request.Escape,
		HasHeader: request.HasHeader,
		SkipLines: request.Skip,
	})
	return Dialect{
		Encoding: found.Encoding, Delimiter: found.Delimiter, Quote: found.Quote, Escape: found.Escape,
		LineEnd: found.LineEnd, HasHeader: found.HasHeader, SkipLines: found.SkipLines,
		HasBlanks: found.HasBlanks, Warnings: found.Warnings,
	}, err
}

// newReader returns a reader of the records of text that begins after the skipped lines.
func newReader(text io.Reader, d Dialect) (*records.Reader, error) {
	decoded, isDecoded, err := dialect.Decode(text, d.Encoding)
	if err != nil {
		return nil, err
	}
	how := records.Dialect{
		Delimiter: d.Delimiter,
		EndsInCR:  d.LineEnd == "CR",
		HasBlanks: d.HasBlanks,
	}
	if d.Quote != "" {
		how.Quote, how.Escape = d.Quote[0], d.Escape[0]
	}
	reader := records.NewReader(withoutMarks(decoded), how, isDecoded)
	if err := reader.SkipLines(d.SkipLines); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return reader, nil
}

// withoutMarks is text without the byte order marks at its beginning. Files that were joined have several.
func withoutMarks(text io.Reader) io.Reader {
	for {
		var start [3]byte
		n, _ := io.ReadFull(text, start[:])
		if !bytes.Equal(start[:n], []byte("\ufeff")) {
			return io.MultiReader(bytes.NewReader(start[:n]), text)
		}
	}
}

// A countingReader counts the bytes, and stops at a limit; 0 means no limit.
type countingReader struct {
	reader io.Reader
	bytes  int64
	limit  int64
}

func (r *countingReader) Read(p []byte) (int, error) {
	n, err := r.reader.Read(p)
	r.bytes += int64(n)
	if limited := r.check(); limited != nil {
		return 0, limited
	}
	return n, err
}

// check returns an error beyond the limit.
func (r *countingReader) check() error {
	if r.limit == 0 || r.bytes <= r.limit {
		return nil
	}
	return &db.UserError{
		Status:  http.StatusRequestEntityTooLarge,
		Code:    "TD005",
		Message: fmt.Sprintf("the file has more than %d bytes, unpacked", r.limit),
		Hint:    "Import it with orchestrator upload. The limit of the page is up --max-upload.",
	}
}
