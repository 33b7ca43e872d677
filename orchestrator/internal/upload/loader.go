package upload

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/records"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/workbook"
)

const (
	// firstChunk is the part of the file from which types are chosen before the table is created.
	firstChunk = 256 << 10
	// chunkSize is how much of the file is encoded and sent at a time.
	chunkSize = 64 << 10
)

// A loader imports one file, or several.
type loader struct {
	conn    *sql.Conn
	request Request
	file    *countingReader // the file as received
	text    *countingReader // its text, unpacked
	// unpacked is how much of the text was compressed.
	unpacked int64
	dialect  Dialect
	records  *lines             // of a CSV file
	named    namedReader        // of any other
	zip      *zipSeries         // that the file is in; nil for none
	book     *workbook.Workbook // that the file is; nil for none
	source   string             // name of the file
	closers  []io.Closer        // what is open of it
	ahead    *records.Record    // already read: the first record of a file without a header

	header   []string
	width    int // of the file's header
	table    table
	problems problems
	series   series

	step     step    // empty before begin_import()
	format   *format // of the rows that its COPY takes
	pipeline pipeline
	copy     *copier
	copied   int64 // rows of the completed COPYs
}

// newLoader reads the beginning of the file.
func newLoader(ctx context.Context, conn *sql.Conn, file io.Reader, request Request) (*loader, error) {
	l := &loader{conn: conn, request: request, file: &countingReader{reader: file},
		text: &countingReader{limit: request.MaxBytes}}
	types, err := readLadder(ctx, conn)
	if err != nil {
		return nil, err
	}
	l.table = table{ladder: types, nulls: nulls{texts: request.Nulls, isQuotedEmptyNull: request.IsQuotedEmptyNull, isTrimmed: request.IsTrimmed}}
	l.pipeline = newPipeline()
	l.table.chunk = l.pipeline.newChunk()
	if l.dialect, err = l.open(ctx, request.Source); err != nil {
		return nil, err
	}
	l.series.files, _ = file.(Files)
	return l, l.startSeries()
}

// open reads the beginning of a file.
func (l *loader) open(ctx context.Context, name string) (Dialect, error) {
	l.source = name
	unpacked, err := l.unpack(l.file, name)
	if err != nil {
		return Dialect{}, err
	}
	return l.openText(ctx, unpacked, name)
}

// openText reads the beginning of the text of a file, or of a file in a zip.
func (l *loader) openText(ctx context.Context, text io.Reader, name string) (Dialect, error) {
	l.text.reader = text
	before := l.text.bytes
	sample, err := io.ReadAll(io.LimitReader(l.text, sampleSize))
	if err != nil {
		return Dialect{}, err
	}
	whole := io.MultiReader(bytes.NewReader(sample), l.text)
	format, err := findFormat(sample, name, l.request.Format, l.zip != nil)
	if err != nil {
		return Dialect{}, err
	}
	if format.Name == zipFormat {
		return l.openZip(ctx, whole, name, before)
	}
	if err := l.request.checkOptions(format); err != nil {
		return Dialect{}, err
	}
	if format.Name == workbookFormat {
		return l.openWorkbook(ctx, whole)
	}
	l.table.nulls.takesQuoted = format.open != nil
	if format.open != nil {
		return l.openNamed(ctx, format, whole)
	}
	if err := checkText(sample); err != nil {
		return Dialect{}, err
	}
	dialect, err := sniff(sample, l.request)
	if err != nil {
		return Dialect{}, err
	}
	dialect.Format = format.Name
	reader, err := newReader(whole, dialect)
	if err != nil {
		return Dialect{}, err
	}
	l.records = &lines{reader: reader, comment: []byte(l.request.Comment), skipEnd: l.request.SkipEnd}
	return dialect, l.readHeader(dialect)
}

// next reads a record.
func (l *loader) next() (*records.Record, error) {
	if first := l.ahead; first != nil {
		l.ahead = nil
		return first, nil
	}
	if l.named != nil {
		return l.named.Next()
	}
	return l.records.next()
}

// readAll reads all files, and sends their records.
func (l *loader) readAll(ctx context.Context) error {
	size, rest := cmp.Or(l.request.sizes[0], firstChunk), cmp.Or(l.request.sizes[1], chunkSize)
	for {
		isWhole, err := l.read(ctx, size)
		if err != nil {
			return err
		}
		if err := l.pass(ctx); err != nil {
			return err
		}
		l.report()
		if isWhole {
			if err := l.flush(ctx); err != nil {
				return err
			}
			if isLast, err := l.openNext(ctx); isLast || err != nil {
				return err
			}
		}
		size = rest
	}
}

// load imports the whole file.
func (l *loader) load(ctx context.Context) (Import, error) {
	if err := l.readAll(ctx); err != nil {
		return Import{}, err
	}
	if l.problems.isRefused() {
		return Import{}, l.problems.refusal()
	}
	if err := l.series.checkAwaited(); err != nil {
		return Import{}, err
	}
	if err := l.endCopy(); err != nil {
		return Import{}, err
	}
	if err := l.recordProblems(ctx); err != nil {
		return Import{}, err
	}
	if l.request.Shape["bad"] == "reject" {
		if err := l.rejectValues(ctx); err != nil {
			return Import{}, err
		}
	}
	return l.finish(ctx)
}

// preview begins an import of the beginning of the file.
func (l *loader) preview(ctx context.Context) (Plan, error) {
	isWhole, err := l.read(ctx, firstChunk)
	if err != nil {
		return Plan{}, err
	}
	if l.problems.isRefused() {
		return Plan{}, l.problems.refusal()
	}
	misfits := l.table.misfits()
	// The columns depend on the values.
	if err := l.flush(ctx); err != nil {
		return Plan{}, err
	}
	if isWhole {
		if err := l.series.checkAwaited(); err != nil {
			return Plan{}, err
		}
	}
	if err := l.endCopy(); err != nil {
		return Plan{}, err
	}
	plan := Plan{Dialect: l.dialect, IsWhole: isWhole, Choices: l.choices(), Statements: []string{l.step.create, l.step.copy}}
	var columns []byte
	if err := l.conn.QueryRowContext(ctx, "select tinydevcrm._preview_import_columns($1, $2)",
		l.step.id, l.ranks()).Scan(&columns); err != nil {
		return Plan{}, fmt.Errorf("preview the columns: %w", err)
	}
	if err := json.Unmarshal(columns, &plan.Columns); err != nil {
		return Plan{}, fmt.Errorf("read the columns: %w", err)
	}
	plan.Notices = append([]string{}, l.dialect.Warnings...)
	for i, column := range plan.Columns {
		plan.Columns[i].Misfit = l.table.misfitOf(misfits, i, column.Type)
		if column.Note != "" {
			plan.Notices = append(plan.Notices, column.Note)
		}
	}
	return plan, nil
}

// read adds records to the table's chunk until it has that size. isWhole means that the file has no more.
func (l *loader) read(ctx context.Context, size int) (isWhole bool, err error) {
	for count := 0; l.table.chunk.size() < size; count++ {
		if count%1024 == 0 && ctx.Err() != nil {
			return false, ctx.Err()
		}
		record, err := l.next()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return true, nil
			}
			return false, explainRecord(err)
		}
		if err := l.take(ctx, record); err != nil {
			return false, err
		}
	}
	return false, nil
}

// take adds a record, or notes what is wrong with it. Once the file is refused, it only counts problems.
func (l *loader) take(ctx context.Context, record *records.Record) error {
	if err := l.placeColumns(); err != nil {
		return err
	}
	if l.request.Ragged == "pad" || l.request.Ragged == "reject" {
		cutSurplus(record, l.width)
	}
	problem := l.problems.of(record, l.width)
	isRejected := problem != "" && l.request.Ragged == "reject" && !record.IsRepaired
	isRepaired := record.IsRepaired || problem != "" && l.request.Ragged == "pad" && !record.IsBad && record.Fault == ""
	if problem != "" && !isRejected && !isRepaired || l.problems.isRefused() {
		l.refuse(record, problem)
		return nil
	}
	record = l.series.spread(record, l.width)
	if problem == "" {
		l.table.add(record)
		return nil
	}

	l.problems.keep(record, problem, isRejected)
	if isRejected && l.problems.rejected > l.rejectLimit() {
		l.refuse(record, problem)
		return nil
	}
	if len(record.Fields) > len(l.table.fits) && isRepaired {
		if err := l.addColumns(ctx, len(record.Fields)); err != nil {
			return err
		}
	}
	if isRepaired {
		l.table.add(record)
	}
	if l.problems.isFull() {
		if err := l.flush(ctx); err != nil {
			return err
		}
		return l.recordProblems(ctx)
	}
	return nil
}

// refuse counts a problem for which the file is refused, or a good record after one.
func (l *loader) refuse(record *records.Record, problem string) {
	if problem == "" {
		l.problems.isLast = false
	} else {
		l.problems.isLast = l.problems.isLast || !l.problems.isRefused() && l.table.rows > 0
		l.problems.note(record, problem)
	}
	l.table.chunk.clear()
}

// cutSurplus removes empty fields beyond the width of the table: a delimiter at the end of a line.
func cutSurplus(record *records.Record, width int) {
	for len(record.Fields) > width {
		last := record.Fields[len(record.Fields)-1]
		if last.IsQuoted || len(last.Text) > 0 {
			return
		}
		record.Fields = record.Fields[:len(record.Fields)-1]
	}
}

func (l *loader) endCopy() error {
	if l.copy == nil {
		return nil
	}
	rows, err := l.copy.end()
	l.copy = nil
	if err != nil {
		return fmt.Errorf("copy: %w", explainCopy(err, l.copied))
	}
	l.copied += rows
	return nil
}

// addColumns adds columns for surplus fields.
func (l *loader) addColumns(ctx context.Context, width int) error {
	if err := l.flush(ctx); err != nil {
		return err
	}
	l.table.grow(width)
	return l.widen(ctx)
}

func (l *loader) report() {
	if l.request.Progress != nil {
		l.request.Progress(Progress{Bytes: l.file.bytes, Rows: l.table.rows})
	}
}
