package message

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
)

// An event is what a table of its rows needs.
type event struct {
	Columns      []string `json:"columns"`
	Rows         []row    `json:"rows"`
	Added        []row    `json:"added"`
	Removed      []row    `json:"removed"`
	Updated      []row    `json:"updated"`
	RowCount     int      `json:"row_count"`
	AddedCount   int      `json:"added_count"`
	RemovedCount int      `json:"removed_count"`
	UpdatedCount int      `json:"updated_count"`
}

// A row has its columns in their order. What is not an object is a row without columns: users may write events.
type row struct {
	columns []string
	cells   map[string]json.RawMessage
}

func (r *row) UnmarshalJSON(text []byte) error {
	*r = row{cells: make(map[string]json.RawMessage)}
	if len(text) == 0 || text[0] != '{' {
		return nil
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	if _, err := decoder.Token(); err != nil {
		return err
	}
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return err
		}
		var cell json.RawMessage
		if err := decoder.Decode(&cell); err != nil {
			return err
		}
		name, _ := token.(string)
		if _, isKnown := r.cells[name]; !isKnown {
			r.columns = append(r.columns, name)
		}
		r.cells[name] = cell
	}
	return nil
}

// text is a cell as a person reads it: nothing for null, and JSON only for lists and objects.
func (r row) text(column string) string {
	cell := r.cells[column]
	var text string
	switch {
	case len(cell) == 0 || string(cell) == "null":
		return ""
	case cell[0] == '"' && json.Unmarshal(cell, &text) == nil:
		return text
	}
	return string(cell)
}

// sub is the row in a cell, such as the old one of an update.
func (r row) sub(column string) row {
	var s row
	if err := s.UnmarshalJSON(r.cells[column]); err != nil {
		return row{}
	}
	return s
}

// String is a row on one line.
func (r row) String() string {
	cells := make([]string, len(r.columns))
	for i, column := range r.columns {
		cells[i] = column + ": " + r.text(column)
	}
	return strings.Join(cells, ", ")
}

// A change is a row with what has happened to it.
type change struct {
	mark        string
	before, now row
}

// changes are what the event is about, and how many there are in all.
func (e event) changes() (list []change, total int) {
	for _, u := range e.Updated {
		list = append(list, change{"~", u.sub("old"), u.sub("new")})
	}
	for _, r := range e.Added {
		list = append(list, change{"+", r, r})
	}
	for _, r := range e.Removed {
		list = append(list, change{"-", r, r})
	}
	if len(list) > 0 {
		// An update counts as an added and as a removed row.
		return list, e.AddedCount + e.RemovedCount - e.UpdatedCount
	}
	for _, r := range e.Rows {
		list = append(list, change{"", r, r})
	}
	return list, e.RowCount
}

// table returns what the event is about as columns and rows of text, and how many rows it leaves out.
func (e event) table() (columns []string, rows [][]string, more int) {
	list, total := e.changes()
	isKnown := make(map[string]bool)
	hasMarks := false
	for _, c := range list {
		hasMarks = hasMarks || c.mark != list[0].mark
		for _, column := range c.now.columns {
			if !isKnown[column] {
				isKnown[column] = true
				columns = append(columns, column)
			}
		}
	}
	for _, c := range list {
		cells := make([]string, 0, len(columns)+1)
		if hasMarks {
			cells = append(cells, c.mark)
		}
		for _, column := range columns {
			was, is := c.before.text(column), c.now.text(column)
			if was != is {
				is = was + " → " + is
			}
			cells = append(cells, is)
		}
		rows = append(rows, cells)
	}
	if hasMarks {
		columns = slices.Concat([]string{""}, columns)
	}
	return columns, rows, max(total-len(rows), 0)
}
