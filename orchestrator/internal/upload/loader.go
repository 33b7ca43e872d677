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
	"net/http"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/patterns"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/records"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/words"
)

const (
	// firstChunk is the part of the file from which types are chosen before the table is created.
	firstChunk = 256 << 10
	// chunkSize is how many bytes are sent to the server at a time.
	chunkSize = 64 << 10
)

// A loader imports one file, or several.
type loader struct {
	conn    *sql.Conn
	request Request
	file    *countingReader // the file as received
	text    *countingReader // its text, unpacked
	dialect Dialect
	records *lines
	ahead   *records.Record // already read: the first record of a file without a header

	header   []string
	width    int // of the file's header
	table    table
	problems problems
	series   series

	step   step // empty before begin_import()
	copy   *copier
	copied int64 // rows of the completed COPYs
}

// newLoader reads the beginning of the file.
func newLoader(ctx context.Context, conn *sql.Conn, file io.Reader, request Request) (*loader, error) {
	l := &loader{conn: conn, request: request, file: &countingReader{reader: file},
		text: &countingReader{limit: request.MaxBytes}}
	types, err := readLadder(ctx, conn)
	if err != nil {
		return nil, err
	}
	l.table = table{ladder: types, nulls: request.Nulls, isQuotedEmptyNull: request.IsQuotedEmptyNull,
		isTrimmed: request.IsTrimmed}
	if l.dialect, err = l.open(ctx, request.Source); err != nil {
		return nil, err
	}
	l.series.files, _ = file.(Files)
	return l, l.startSeries()
}

// open reads the beginning of a file.
func (l *loader) open(ctx context.Context, source string) (Dialect, error) {
	unpacked, err := unpack(l.file, source, l.request.MaxRatio)
	if err != nil {
		return Dialect{}, err
	}
	l.text.reader = unpacked
	sample, err := io.ReadAll(io.LimitReader(l.text, sampleSize))
	if err != nil {
		return Dialect{}, err
	}
	if err := checkText(sample); err != nil {
		return Dialect{}, err
	}
	dialect, err := sniff(ctx, l.conn, sample, l.request)
	if err != nil {
		return Dialect{}, err
	}
	reader, err := newReader(io.MultiReader(bytes.NewReader(sample), l.text), dialect)
	if err != nil {
		return Dialect{}, err
	}
	l.records = &lines{reader: reader, comment: []byte(l.request.Comment), skipEnd: l.request.SkipEnd}
	return dialect, l.readHeader(dialect)
}

// readHeader determines the columns.
func (l *loader) readHeader(dialect Dialect) error {
	first, err := l.records.next()
	for err == nil && first.IsBlank() && !dialect.HasHeader && l.request.HasHeader == nil {
		first, err = l.records.next()
	}
	if errors.Is(err, io.EOF) {
		return errNoHeader
	}
	if err != nil {
		return explainRecord(err)
	}
	if problem := l.problems.of(first, len(first.Fields)); problem != "" {
		if l.request.Ragged != "pad" || first.IsBad {
			l.problems.note(first, problem)
			return l.problems.refusal()
		}
		l.problems.keep(first, problem, false)
	}
	l.header = make([]string, len(first.Fields))
	l.width = len(l.header)
	l.records.isOneColumn = l.width == 1
	if !dialect.HasHeader {
		l.ahead = first
		return l.nameColumns()
	}
	l.addNames(first)
	for range l.request.HeaderLines - 1 {
		if first, err = l.records.next(); errors.Is(err, io.EOF) {
			return errNoHeader
		}
		if err != nil {
			return explainRecord(err)
		}
		l.addNames(first)
	}
	if err := l.records.skip(l.request.SkipAfterHeader); err != nil {
		return explainRecord(err)
	}
	return l.nameColumns()
}

// addNames adds the cells of a line of the header to the names of the columns.
func (l *loader) addNames(record *records.Record) {
	for i, field := range record.Fields[:min(len(record.Fields), l.width)] {
		name := string(field.Text)
		if l.header[i] != "" && name != "" {
			name = " " + name
		}
		l.header[i] += name
	}
}

// nameColumns gives the columns the names of the request.
func (l *loader) nameColumns() error {
	if l.request.Columns == nil {
		return nil
	}
	if len(l.request.Columns) != l.width {
		return &db.UserError{
			Status: http.StatusUnprocessableEntity,
			Code:   "TD007",
			Message: fmt.Sprintf("%s with a name, but the first line has %s",
				words.Count(int64(len(l.request.Columns)), "column"), words.Count(int64(l.width), "field")),
			Hint: "Name each column of the file (--columns), in the order of the file.",
		}
	}
	l.header = l.request.Columns
	return nil
}

// next reads a record.
func (l *loader) next() (*records.Record, error) {
	if first := l.ahead; first != nil {
		l.ahead = nil
		return first, nil
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
		if err := l.flush(ctx); err != nil {
			return err
		}
		l.report()
		if isWhole {
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
	// The columns depend on the values.
	if err := l.flush(ctx); err != nil {
		return Plan{}, err
	}
	if err := l.endCopy(); err != nil {
		return Plan{}, err
	}
	plan := Plan{Dialect: l.dialect, IsWhole: isWhole, Statements: []string{l.step.create, l.step.copy}}
	var columns []byte
	if err := l.conn.QueryRowContext(ctx, "select tinydevcrm._preview_import_columns($1, $2)",
		l.step.id, l.table.ranks()).Scan(&columns); err != nil {
		return Plan{}, fmt.Errorf("preview the columns: %w", err)
	}
	if err := json.Unmarshal(columns, &plan.Columns); err != nil {
		return Plan{}, fmt.Errorf("read the columns: %w", err)
	}
	plan.Notices = append([]string{}, l.dialect.Warnings...)
	for _, column := range plan.Columns {
		if column.Note != "" {
			plan.Notices = append(plan.Notices, column.Note)
		}
	}
	return plan, nil
}

// read adds records to the table's lines until they have that size. isWhole means that the file has no more.
func (l *loader) read(ctx context.Context, size int) (isWhole bool, err error) {
	for count := 0; len(l.table.lines) < size; count++ {
		if count%1024 == 0 && ctx.Err() != nil {
			return false, ctx.Err()
		}
		record, err := l.next()
		if errors.Is(err, io.EOF) {
			return true, nil
		}
		if err != nil {
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
	if l.request.Ragged == "pad" || l.request.Ragged == "reject" {
		cutSurplus(record, l.width)
	}
	problem := l.problems.of(record, l.width)
	isRejected := problem != "" && l.request.Ragged == "reject"
	isRepaired := problem != "" && l.request.Ragged == "pad" && !record.IsBad
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
	l.table.lines = l.table.lines[:0]
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

// flush sends the lines. If a value does not fit its column, the column is widened first.
func (l *loader) flush(ctx context.Context) error {
	if l.problems.isRefused() {
		return nil
	}
	if err := l.begin(ctx); err != nil {
		return err
	}
	if l.table.isMisfit() {
		if err := l.widen(ctx); err != nil {
			return err
		}
	}
	if len(l.table.lines) == 0 {
		return nil
	}
	if l.copy == nil {
		started, err := startCopy(ctx, l.conn, l.step.copy)
		if err != nil {
			return fmt.Errorf("copy: %w", err)
		}
		l.copy = started
	}
	if err := l.copy.send(ctx, l.conn, l.table.lines); err != nil {
		return fmt.Errorf("copy: %w", explainCopy(err, l.copied))
	}
	l.table.lines = l.table.lines[:0]
	return nil
}

func (l *loader) endCopy() error {
	if l.copy == nil {
		return nil
	}
	rows, err := l.copy.end(l.conn)
	if err != nil {
		return fmt.Errorf("copy: %w", explainCopy(err, l.copied))
	}
	l.copied += rows
	l.copy = nil
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

// A step is the state of an import: tinydevcrm.import_step.
type step struct {
	id           int64
	columns      []storedColumn
	create, copy string
}

type storedColumn struct {
	Column
	Rank    *int64 `json:"rank"`
	IsGiven bool   `json:"is_given"`
}

// begin creates the table, unless that is done.
func (l *loader) begin(ctx context.Context) error {
	if l.step.id != 0 {
		return nil
	}
	given, err := marshalNames(l.request.Types)
	if err != nil {
		return err
	}
	options, err := marshalNames(l.request.Shape)
	if err != nil {
		return err
	}
	mode := l.request.Mode
	if mode == "" {
		mode = "create"
	}
	return l.follow(ctx, `
		select import_id, columns, create_statement, copy_statement
		  from tinydevcrm.begin_import(
		           source        => $1,
		           header        => $2,
		           ranks         => $3,
		           table_name    => $4,
		           mode          => $5,
		           key           => $6,
		           types         => $7,
		           dialect       => row($8, $9, nullif($10, ''), nullif($11, ''), $12, $13, $14, $15,
		                                $16)::tinydevcrm.csv_dialect,
		           distribute_by => $17,
		           options       => $18)`,
		l.request.Source, pq.Array(l.header), l.table.ranks(), l.request.Table, mode,
		pq.Array(l.request.Key), given, l.dialect.Encoding, l.dialect.Delimiter, l.dialect.Quote,
		l.dialect.Escape, l.dialect.LineEnd, l.dialect.HasHeader, l.dialect.SkipLines, l.dialect.HasBlanks,
		pq.Array(l.dialect.Warnings), l.request.DistributeBy, options)
}

func marshalNames(values map[string]string) ([]byte, error) {
	if values == nil {
		return []byte("{}"), nil
	}
	text, err := json.Marshal(values)
	if err != nil {
		return nil, fmt.Errorf("write the options: %w", err)
	}
	return text, nil
}

func (l *loader) widen(ctx context.Context) error {
	if err := l.endCopy(); err != nil {
		return err
	}
	return l.follow(ctx, `
		select import_id, columns, create_statement, copy_statement
		  from tinydevcrm.widen_import($1, $2)`,
		l.step.id, l.table.ranks())
}

// follow continues with the step that the database returned.
func (l *loader) follow(ctx context.Context, query string, args ...any) error {
	next := step{create: l.step.create}
	var columns []byte
	var create sql.Null[string]
	if err := l.conn.QueryRowContext(ctx, query, args...).Scan(&next.id, &columns, &create, &next.copy); err != nil {
		return err
	}
	if err := json.Unmarshal(columns, &next.columns); err != nil {
		return fmt.Errorf("read the columns: %w", err)
	}
	if create.Valid {
		next.create = create.V
	}
	l.step = next
	l.table.stored = make([]patterns.Mask, len(next.columns))
	for i, column := range next.columns {
		l.table.stored[i] = l.table.ladder.maskOf(column.Rank)
	}
	return nil
}

// recordProblems writes down what was repaired or rejected.
func (l *loader) recordProblems(ctx context.Context) error {
	p := &l.problems
	if len(p.lines) == 0 {
		return nil
	}
	if err := l.endCopy(); err != nil {
		return err
	}
	_, err := l.conn.ExecContext(ctx, "select tinydevcrm.record_import_problems($1, $2, $3, $4, $5)",
		l.step.id, pq.Array(p.lines), pq.Array(p.reasons), pq.Array(p.texts), p.rejected > 0)
	p.lines, p.reasons, p.texts, p.bytes = p.lines[:0], p.reasons[:0], p.texts[:0], 0
	return err
}

// rejectValues leaves out the rows whose values do not fit.
func (l *loader) rejectValues(ctx context.Context) error {
	type row struct {
		number       int64
		reason, text string
	}
	rows, err := db.Collect(ctx, l.conn, "reject values", func(r *row) []any { return []any{&r.number, &r.reason, &r.text} },
		"select row_number, reason, row_text from tinydevcrm.reject_import_values($1)", l.step.id)
	if err != nil {
		return err
	}
	p := &l.problems
	for _, bad := range rows {
		p.rejected++
		file, line := l.table.lineOf(bad.number)
		line = cmp.Or(line, bad.number)
		if file != "" {
			bad.reason = file + ": " + bad.reason
		}
		if p.rejected > l.rejectLimit() {
			p.note(&records.Record{Line: line, Raw: []byte(bad.text)}, bad.reason)
			continue
		}
		p.lines, p.reasons, p.texts = append(p.lines, line), append(p.reasons, bad.reason), append(p.texts, bad.text)
	}
	if p.isRefused() {
		return p.refusal()
	}
	// Rows have other numbers now.
	l.table.places = nil
	l.copied -= int64(len(rows))
	return l.recordProblems(ctx)
}

func (l *loader) rejectLimit() int64 { return cmp.Or(l.request.RejectLimit, defaultRejects) }

func (l *loader) finish(ctx context.Context) (Import, error) {
	var done Import
	var columns []byte
	err := l.conn.QueryRowContext(ctx, `
		select id, source, mode, schema_name, table_name, columns, row_count, byte_count,
		       problem_count, reject_count, rewrite_count, distribution, notices, started_at, finished_at
		  from tinydevcrm.finish_import($1, $2, $3, $4)`,
		l.step.id, l.table.ranks(), l.copied, l.file.bytes).Scan(
		&done.ID, &done.Source, &done.Mode, &done.SchemaName, &done.TableName, &columns,
		&done.RowCount, &done.ByteCount, &done.ProblemCount, &done.RejectCount, &done.RewriteCount, &done.Distribution,
		pq.Array(&done.Notices), &done.StartedAt, &done.FinishedAt)
	if err != nil {
		return Import{}, fmt.Errorf("finish: %w", err)
	}
	if err := json.Unmarshal(columns, &done.Columns); err != nil {
		return Import{}, fmt.Errorf("read the columns: %w", err)
	}
	done.Dialect = l.dialect
	return done, nil
}

func (l *loader) report() {
	if l.request.Progress != nil {
		l.request.Progress(Progress{Bytes: l.file.bytes, Rows: l.table.rows})
	}
}
