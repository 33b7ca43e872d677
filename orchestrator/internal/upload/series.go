package upload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/text/unicode/norm"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/records"
)

// Files are several files that go into one table. Read reads one of them, up to io.EOF; NextFile goes on with the
// next and returns its name, or io.EOF after the last.
type Files interface {
	io.Reader
	NextFile() (name string, err error)
}

// A series is the place of the loader among several files. Their columns are matched by name.
type series struct {
	files Files
	name  string // of the file that is read
	// header are the columns of the table, with that for the file's name.
	header     []string
	fileColumn string
	filePlace  int
	isLater    bool // the file is not the first
	// awaited are columns that the request names, and that no record has had yet.
	awaited map[int]string
	// places are, for each field of a file, its column in the table; -1 for none. Nil when they are the same.
	places []int
	record records.Record
}

// startSeries begins with the first file.
func (l *loader) startSeries() error {
	s := &l.series
	s.name, s.fileColumn = l.source, l.request.FileColumn
	if s.fileColumn != "" {
		if slices.Contains(l.header, s.fileColumn) {
			return badOption("file_column", s.fileColumn, "The file has a column of that name: choose another.")
		}
		s.filePlace = len(l.header)
		l.header = append(l.header, s.fileColumn)
	}
	if s.fileColumn != "" || l.named != nil {
		s.places = make([]int, l.width)
		for i := range s.places {
			s.places[i] = i
		}
	}
	s.header = l.header
	l.table.grow(len(l.header))
	l.beginTypes()
	return nil
}

// openNext goes on with the next file, unless it was the last.
func (l *loader) openNext(ctx context.Context) (isLast bool, err error) {
	s := &l.series
	isInZip := l.zip != nil && len(l.zip.chosen) > 0
	l.noteJSON()
	l.table.codecs = nil
	if err := l.closeAll(); err != nil {
		return false, err
	}
	open := l.openMember
	if !isInZip {
		if s.files == nil {
			return true, nil
		}
		name, err := s.files.NextFile()
		if errors.Is(err, io.EOF) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		open = func(ctx context.Context) (Dialect, error) { return l.open(ctx, name) }
	}
	// Its dialect is found by a query.
	if err := l.endCopy(); err != nil {
		return false, err
	}
	_, err = open(ctx)
	s.name = l.source
	l.problems.file, l.table.file, s.isLater = s.name, s.name, true
	if err != nil {
		return false, inFile(s.name, err)
	}
	if l.named != nil && l.named.Grows() {
		s.places = nil
		return false, nil
	}
	s.places, err = s.match(l.header, l.request)
	return false, err
}

// inFile names the file in an error of the user's.
func inFile(name string, err error) error {
	problem := db.Explain(err)
	if problem.Status >= http.StatusInternalServerError {
		return fmt.Errorf("%s: %w", name, err)
	}
	return &db.UserError{
		Status:  problem.Status,
		Code:    problem.Code,
		Message: name + ": " + problem.Message,
		Detail:  problem.Detail,
		Hint:    problem.Hint,
		Lines:   problem.Lines,
		Choices: problem.Choices,
	}
}

// match finds the columns of the table that have the names of a header.
func (s *series) match(header []string, request Request) ([]int, error) {
	places := make([]int, len(header))
	isUsed := make([]bool, len(s.header))
	var differences []string
	for i, name := range header {
		places[i] = -1
		for j := range s.header {
			if !isUsed[j] && norm.NFC.String(s.header[j]) == norm.NFC.String(name) && name != s.fileColumn {
				places[i], isUsed[j] = j, true
				break
			}
		}
		if places[i] < 0 && request.Shape["new_columns"] != "ignore" {
			differences = append(differences, fmt.Sprintf("%q: not in the files before it", name))
		}
	}
	for j, name := range s.header {
		if !isUsed[j] && name != s.fileColumn && request.Shape["missing_columns"] != "null" {
			differences = append(differences, fmt.Sprintf("%q: only in the files before it", name))
		}
	}
	if len(differences) == 0 {
		return places, nil
	}
	return nil, s.differs(differences)
}

// differs is the error for a file with other columns.
func (s *series) differs(differences []string) error {
	return &db.UserError{
		Status:  http.StatusUnprocessableEntity,
		Code:    "TD006",
		Message: fmt.Sprintf("%s has other columns than the files before it", s.name),
		Detail:  strings.Join(differences, "\n"),
		Hint: "Begin with the file that has the most columns, let columns be NULL (--missing-columns null), or ignore them " +
			"(--new-columns ignore).",
	}
}

// names are those of the columns as the database gets them. Names that look the same are the same: combined characters
// are composed.
func (s *series) names() []string {
	names := make([]string, len(s.header))
	for i, name := range s.header {
		names[i] = norm.NFC.String(name)
	}
	return names
}

// spread puts the fields of a record into the columns of the table. Surplus fields come after them.
func (s *series) spread(record *records.Record, width int) *records.Record {
	if s.places == nil || s.fileColumn == "" && len(record.Fields) <= width && areSame(s.places) {
		return record
	}
	surplus := max(0, len(record.Fields)-width)
	fields := slices.Grow(s.record.Fields[:0], len(s.header)+surplus)[:len(s.header)+surplus]
	clear(fields)
	for i, field := range record.Fields {
		switch {
		case i >= width:
			fields[len(s.header)+i-width] = field
		case s.places[i] >= 0:
			fields[s.places[i]] = field
		}
	}
	if s.fileColumn != "" {
		fields[s.filePlace] = records.Field{Text: []byte(s.name), IsQuoted: true}
	}
	s.record = *record
	s.record.Fields = fields
	return &s.record
}

// areSame reports whether each field has its own place.
func areSame(places []int) bool {
	for i, place := range places {
		if place != i {
			return false
		}
	}
	return true
}
