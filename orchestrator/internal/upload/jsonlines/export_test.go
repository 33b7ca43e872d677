package jsonlines

import "github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/records"

// NextByTokens is Next without parseFlat.
func (r *Reader) NextByTokens() (*records.Record, error) {
	text, line, err := r.splitter.next()
	if err != nil {
		return nil, err
	}
	return r.readAny(text, line)
}

// IsFlat reports whether parseFlat reads an object whose keys are those of the records before it.
func (r *Reader) IsFlat(text string) bool {
	r.begin([]byte(text), 0)
	return r.parseFlat([]byte(text))
}
