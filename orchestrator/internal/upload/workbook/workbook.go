// Package workbook reads the rows of a sheet of an xlsx file as records.
//
// A cell has the value that is stored in it: a text, a number, true or false; the result of a formula, not the formula.
// A number whose format is one of dates or times is written as ISO 8601 writes it, a percentage as the number that is
// stored, such as 0.25. An error such as #DIV/0! is NULL. Merged cells have their value in the first of them, the others
// are NULL. Hidden rows, columns and sheets are read like others, but a hidden sheet only when it is named. Rows without
// values are left out.
//
// It is not excelize that reads, because its stream of rows has neither the types nor the number formats of cells.
package workbook

import (
	"archive/zip"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"

	"github.com/klauspost/compress/flate"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/archive"
)

const (
	// maxPart bounds the parts that are read into memory: the lists of sheets and of formats.
	maxPart = 16 << 20
	// MaxStrings bounds the texts that cells share, which are all in memory.
	MaxStrings = 256 << 20
	maxSheets  = 1000
	// probedRows is how many rows of a sheet are looked at to see whether it has a table.
	probedRows = 1000
)

// ErrFile is the error for a file that cannot be read. Its text says why.
var ErrFile = errors.New("the workbook cannot be read")

// ErrSheet is the error for a sheet that the workbook does not have.
var ErrSheet = errors.New("no such sheet")

// A Sheet is one of a workbook that has cells; others have charts.
type Sheet struct {
	Name     string
	IsHidden bool
	part     string
}

// A Workbook is an open file.
type Workbook struct {
	parts  map[string]*zip.File
	limit  func(io.Reader) io.Reader
	sheets []Sheet
	is1904 bool
	// looks are those of the styles of cells, by their numbers.
	looks   []look
	strings sharedStrings
}

// Open reads everything but the sheets. Whatever is unpacked is read through limit, which may end it with an error.
func Open(file io.ReaderAt, size int64, limit func(io.Reader) io.Reader) (*Workbook, error) {
	opened, err := archive.NewReader(file, size)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFile, err)
	}
	// The standard library's takes twice the time.
	opened.RegisterDecompressor(zip.Deflate, flate.NewReader)
	w := &Workbook{parts: make(map[string]*zip.File), limit: limit}
	for _, part := range opened.File {
		w.parts[partName(part.Name)] = part
	}
	if err := w.read(); err != nil {
		if !errors.Is(err, ErrFile) {
			err = fmt.Errorf("%w: %w", ErrFile, err)
		}
		return nil, err
	}
	return w, nil
}

// partName is a name by which parts are found: without the case, which some programs change.
func partName(name string) string {
	return strings.ToLower(strings.TrimPrefix(path.Clean("/"+strings.ReplaceAll(name, `\`, "/")), "/"))
}

// Sheets are those of the workbook, in their order.
func (w *Workbook) Sheets() []Sheet { return w.sheets }

type relations struct {
	Relation []struct {
		ID     string `xml:"Id,attr"`
		Type   string `xml:"Type,attr"`
		Target string `xml:"Target,attr"`
	} `xml:"Relationship"`
}

// relationsOf reads where a part refers to. The targets are names of parts.
func (w *Workbook) relationsOf(part string) (found relations, err error) {
	folder, name := path.Split(part)
	if err := w.decode(path.Join(folder, "_rels", name+".rels"), &found); err != nil {
		return relations{}, err
	}
	for i, relation := range found.Relation {
		if !strings.HasPrefix(relation.Target, "/") {
			relation.Target = path.Join("/", folder, relation.Target)
		}
		found.Relation[i].Target = partName(relation.Target)
	}
	return found, nil
}

// read reads the description of the workbook.
func (w *Workbook) read() error {
	root, err := w.relationsOf("")
	if err != nil {
		return err
	}
	main := ""
	for _, relation := range root.Relation {
		if strings.HasSuffix(relation.Type, "/officeDocument") {
			main = relation.Target
		}
	}
	if strings.HasSuffix(main, ".bin") {
		return errors.New("it is a binary workbook (xlsb); save it as xlsx")
	}
	var book struct {
		Properties struct {
			Is1904 string `xml:"date1904,attr"`
		} `xml:"workbookPr"`
		Sheets []struct {
			Name  string `xml:"name,attr"`
			State string `xml:"state,attr"`
			ID    string `xml:"id,attr"`
		} `xml:"sheets>sheet"`
	}
	if err := w.decode(main, &book); err != nil {
		return err
	}
	if len(book.Sheets) > maxSheets {
		return fmt.Errorf("it has more than %d sheets", maxSheets)
	}
	w.is1904 = book.Properties.Is1904 == "1" || book.Properties.Is1904 == "true"
	links, err := w.relationsOf(main)
	if err != nil {
		return err
	}
	targets := make(map[string]string)
	for _, link := range links.Relation {
		if strings.HasSuffix(link.Type, "/worksheet") {
			targets[link.ID] = link.Target
		}
	}
	for _, sheet := range book.Sheets {
		if target := targets[sheet.ID]; target != "" {
			isHidden := sheet.State == "hidden" || sheet.State == "veryHidden"
			w.sheets = append(w.sheets, Sheet{Name: sheet.Name, IsHidden: isHidden, part: target})
		}
	}
	if len(w.sheets) == 0 {
		return errors.New("it has no sheets with cells")
	}
	for _, link := range links.Relation {
		switch {
		case strings.HasSuffix(link.Type, "/styles"):
			err = w.readLooks(link.Target)
		case strings.HasSuffix(link.Type, "/sharedStrings"):
			err = w.readStrings(link.Target)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// readLooks reads what the formats of cells make of their numbers.
func (w *Workbook) readLooks(part string) error {
	var styles struct {
		Formats []struct {
			ID   int    `xml:"numFmtId,attr"`
			Code string `xml:"formatCode,attr"`
		} `xml:"numFmts>numFmt"`
		Cells []struct {
			Format int `xml:"numFmtId,attr"`
		} `xml:"cellXfs>xf"`
	}
	if err := w.decode(part, &styles); err != nil {
		return err
	}
	own := make(map[int]look)
	for _, format := range styles.Formats {
		own[format.ID] = lookOf(format.Code)
	}
	for _, cell := range styles.Cells {
		found, isOwn := own[cell.Format]
		if !isOwn {
			found = builtInLook(cell.Format)
		}
		w.looks = append(w.looks, found)
	}
	return nil
}

// decode reads a part into memory.
func (w *Workbook) decode(part string, to any) error {
	content, err := w.open(part)
	if err != nil {
		return err
	}
	defer content.Close()
	limited := &io.LimitedReader{R: content, N: maxPart}
	if err := xml.NewDecoder(limited).Decode(to); err != nil {
		if limited.N == 0 {
			return fmt.Errorf("%s has more than %d MB", part, maxPart>>20)
		}
		return fmt.Errorf("%s: %w", part, err)
	}
	return nil
}

// A part that is read.
type part struct {
	io.Reader
	io.Closer
}

func (w *Workbook) open(name string) (io.ReadCloser, error) {
	packed := w.parts[partName(name)]
	if packed == nil {
		return nil, fmt.Errorf("it has no %s: is it an xlsx file?", strconv.Quote(name))
	}
	unpacked, err := packed.Open()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return part{w.limit(unpacked), unpacked}, nil
}

// Find finds a sheet by its name, or the first with a table: one that is not hidden and in which two rows with two values
// or more follow each other. Without such a sheet it is the first with a value.
func (w *Workbook) Find(name string) (Sheet, error) {
	if name != "" {
		for _, sheet := range w.sheets {
			if strings.EqualFold(sheet.Name, name) {
				return sheet, nil
			}
		}
		return Sheet{}, fmt.Errorf("%w: %q", ErrSheet, name)
	}
	var first *Sheet
	// A sheet without values is read to its end.
	each := w.limit
	defer func() { w.limit = each }()
	all := &chain{}
	limited := each(all)
	w.limit = func(part io.Reader) io.Reader {
		all.Reader = part
		return limited
	}
	for i := range w.sheets {
		if w.sheets[i].IsHidden {
			continue
		}
		hasValue, hasTable, err := w.probe(w.sheets[i])
		if err != nil {
			return Sheet{}, err
		}
		if hasTable {
			return w.sheets[i], nil
		}
		if hasValue && first == nil {
			first = &w.sheets[i]
		}
	}
	if first == nil {
		return Sheet{}, fmt.Errorf("%w: none of its sheets has values", ErrFile)
	}
	return *first, nil
}

// Outline returns the first row of a sheet that has a value, and where the sheet says that its cells are, such as A1:H20.
func (w *Workbook) Outline(sheet Sheet) (first []string, area string, err error) {
	rows, err := w.Rows(sheet)
	if err != nil {
		return nil, "", err
	}
	defer rows.Close()
	record, err := rows.Next()
	if errors.Is(err, io.EOF) {
		return nil, rows.area, nil
	}
	if err != nil {
		return nil, rows.area, err
	}
	for _, field := range record.Fields {
		if len(field.Text) > 0 {
			first = append(first, string(field.Text))
		}
	}
	return first, rows.area, nil
}

// A chain reads one part after the other.
type chain struct{ io.Reader }

func (w *Workbook) probe(sheet Sheet) (hasValue, hasTable bool, err error) {
	rows, err := w.Rows(sheet)
	if err != nil {
		return false, false, err
	}
	defer rows.Close()
	var before int64
	for range probedRows {
		record, err := rows.Next()
		if errors.Is(err, io.EOF) {
			return hasValue, false, nil
		}
		if err != nil {
			return hasValue, false, err
		}
		hasValue = true
		count := 0
		for _, field := range record.Fields {
			if len(field.Text) > 0 {
				count++
			}
		}
		if count < 2 {
			continue
		}
		if record.Line == before+1 && before > 0 {
			return true, true, nil
		}
		before = record.Line
	}
	return hasValue, false, nil
}
