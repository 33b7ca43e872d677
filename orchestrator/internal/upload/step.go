package upload

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/binary"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/patterns"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/records"
)

// A step is the state of an import: tinydevcrm.import_step.
type step struct {
	id           int64
	columns      []storedColumn
	create, copy string // copy is in text format
	copyBinary   string
}

type storedColumn struct {
	Column
	Rank    *int64 `json:"rank"`
	IsGiven bool   `json:"is_given"`
	// isDeclared means that the file gives the type, and has its values as Postgres writes them.
	isDeclared bool
}

// begin creates the table, unless that is done.
func (l *loader) begin(ctx context.Context) error {
	if l.step.id != 0 {
		return nil
	}
	given, err := marshalNames(l.declaredTypes())
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
		select import_id, columns, create_statement, copy_statement, binary_copy_statement
		  from tinydevcrm.begin_import(
		           source        => $1,
		           header        => $2,
		           ranks         => $3,
		           table_name    => $4,
		           mode          => $5,
		           key           => $6,
		           types         => $7,
		           dialect       => row($8, $9, nullif($10, ''), nullif($11, ''), nullif($12, ''), $13, $14,
		                                $15, $16, $17, nullif($18, ''), $19)::tinydevcrm.csv_dialect,
		           distribute_by => $20,
		           options       => $21)`,
		l.request.Source, pq.Array(l.series.names()), l.ranks(), l.request.Table, mode,
		pq.Array(l.request.Key), given, l.dialect.Encoding, l.dialect.Delimiter, l.dialect.Quote,
		l.dialect.Escape, l.dialect.LineEnd, l.dialect.HasHeader, l.dialect.SkipLines, l.dialect.HasBlanks,
		pq.Array(l.dialect.Warnings), l.dialect.Format, l.dialect.Sheet, pq.Array(l.dialect.Members), l.request.DistributeBy, options)
}

// ranks are those of the columns, as far as all files were read.
func (l *loader) ranks() any {
	l.noteJSON()
	return l.table.ranks()
}

// marshalNames returns JSON as a string: a []byte would be sent as bytea.
func marshalNames(values map[string]string) (string, error) {
	if values == nil {
		return "{}", nil
	}
	text, err := json.Marshal(values)
	if err != nil {
		return "", fmt.Errorf("write the options: %w", err)
	}
	return string(text), nil
}

func (l *loader) widen(ctx context.Context) error {
	if err := l.endCopy(); err != nil {
		return err
	}
	return l.follow(ctx, `
		select import_id, columns, create_statement, copy_statement, binary_copy_statement
		  from tinydevcrm.widen_import($1, $2, $3)`,
		l.step.id, l.ranks(), pq.Array(l.series.names()))
}

// follow continues with the step that the database returned.
func (l *loader) follow(ctx context.Context, query string, args ...any) error {
	next := step{create: l.step.create}
	var columns []byte
	var create sql.Null[string]
	if err := l.conn.QueryRowContext(ctx, query, args...).Scan(&next.id, &columns, &create, &next.copy, &next.copyBinary); err != nil {
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
		next.columns[i].isDeclared = i < len(l.table.declared) && l.table.declared[i]
	}
	l.format = next.format(l.request.isByText)
	l.handOver()
	return nil
}

// A directReader can hand values over as its file has them.
type directReader interface {
	Codecs() []binary.Codec
	HandOver(columns []bool)
}

// handOver has the values of columns with the type that the file declares come without texts, unless an option looks at
// values, or moves them into other columns.
func (l *loader) handOver() {
	reader, isDirect := l.named.(directReader)
	// Records that were read before have texts.
	if !isDirect || l.table.chunk.width > 0 || l.ahead != nil {
		return
	}
	nulls := &l.table.nulls
	isPlain := nulls.texts == nil && !nulls.isTrimmed && !nulls.isQuotedEmptyNull && l.series.fileColumn == "" &&
		areSame(l.series.places) && l.format.kinds != nil
	codecs := reader.Codecs()
	handed := make([]bool, len(codecs))
	for i, column := range l.named.Columns() {
		handed[i] = isPlain && codecs[i] != nil && i < len(l.step.columns) && l.step.columns[i].Type == column.Type
		if !handed[i] {
			codecs[i] = nil
		}
	}
	reader.HandOver(handed)
	l.table.codecs = codecs
}

// format is binary if each column has a type of which the values can be written. Where a type is given, the server reads
// more ways of writing a value than the ladder has.
func (s step) format(isByText bool) *format {
	kinds := make([]binary.Kind, len(s.columns))
	for i, column := range s.columns {
		kinds[i] = binary.KindOf(column.Type)
		if isByText || kinds[i] == 0 || column.Rank == nil && kinds[i] != binary.Text && !column.isDeclared {
			return &format{statement: s.copy}
		}
	}
	return &format{s.copyBinary, kinds}
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
		l.step.id, l.ranks(), l.copied, l.file.bytes).Scan(
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
