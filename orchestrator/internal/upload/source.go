package upload

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/lib/pq"
	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/ianaindex"
	"golang.org/x/text/encoding/unicode"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/records"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/words"
)

// sampleSize is how much of the file sniff_csv() reads.
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

// sniff lets the database find how the file is written, where request does not say it.
func sniff(ctx context.Context, conn *sql.Conn, sample []byte, request Request) (Dialect, error) {
	var d Dialect
	err := conn.QueryRowContext(ctx, `
		select encoding, delimiter, coalesce(quote, ''), coalesce(escape, ''), line_end, has_header,
		       skip_lines, has_blanks, warnings
		  from tinydevcrm.sniff_csv(
		           sample     => $1,
		           encoding   => nullif($2, ''),
		           delimiter  => nullif($3, ''),
		           quote      => nullif($4, ''),
		           escape     => nullif($5, ''),
		           has_header => $6,
		           skip_lines => $7)`,
		sample, request.Encoding, request.Delimiter, request.Quote, request.Escape,
		request.HasHeader, request.Skip).Scan(
		&d.Encoding, &d.Delimiter, &d.Quote, &d.Escape, &d.LineEnd, &d.HasHeader, &d.SkipLines,
		&d.HasBlanks, pq.Array(&d.Warnings))
	return d, err
}

// newReader returns a reader of the records of text that begins after the skipped lines.
func newReader(text io.Reader, dialect Dialect) (*records.Reader, error) {
	decoded, isDecoded, err := decode(text, dialect.Encoding)
	if err != nil {
		return nil, err
	}
	how := records.Dialect{
		Delimiter: dialect.Delimiter,
		EndsInCR:  dialect.LineEnd == "CR",
		HasBlanks: dialect.HasBlanks,
	}
	if dialect.Quote != "" {
		how.Quote, how.Escape = dialect.Quote[0], dialect.Escape[0]
	}
	reader := records.NewReader(withoutMarks(decoded), how, isDecoded)
	if err := reader.SkipLines(dialect.SkipLines); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return reader, nil
}

// decode converts text to UTF-8.
func decode(text io.Reader, name string) (decoded io.Reader, isDecoded bool, err error) {
	var from encoding.Encoding
	switch strings.ReplaceAll(strings.ToUpper(name), "-", "") {
	case "UTF8":
		return text, false, nil
	case "UTF16LE":
		from = unicode.UTF16(unicode.LittleEndian, unicode.UseBOM)
	case "UTF16BE":
		from = unicode.UTF16(unicode.BigEndian, unicode.UseBOM)
	default:
		from, err = ianaindex.IANA.Encoding(ianaName(name))
	}
	if err != nil || from == nil {
		return nil, false, &db.UserError{
			Status:  http.StatusUnprocessableEntity,
			Code:    "TD007",
			Message: fmt.Sprintf("there is no encoding %q", name),
			Hint:    "Some of them are UTF8, LATIN1, WIN1252, SJIS, EUC-KR, GBK.",
		}
	}
	return from.NewDecoder().Reader(text), true, nil
}

// ianaName is the registered name of an encoding for which PostgreSQL has another name.
func ianaName(name string) string {
	upper := strings.ToUpper(name)
	if number, isWindows := strings.CutPrefix(upper, "WIN"); isWindows && !strings.HasPrefix(upper, "WINDOWS") {
		return "windows-" + number
	}
	if upper == "SJIS" {
		return "Shift_JIS"
	}
	return name
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
