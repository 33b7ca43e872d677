// Package definitions reads and writes the files that hold what a role has defined: one file of SQL for each view, and
// tinydevcrm.yaml for tables, sources and subscriptions. What the keys mean and what a change does is SQL.
package definitions

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

// A key is one that a definition may have: a row of tinydevcrm.definition_keys.
type key struct {
	kind, name, kindOfValue string
	isSecret                bool
}

// Keys are those of each kind, in the order in which files have them.
type Keys map[string][]key

// ReadKeys asks the database for the keys.
func ReadKeys(ctx context.Context, from db.Querier) (Keys, error) {
	rows, err := db.Collect(ctx, from, "read the keys of definitions",
		func(k *key) []any { return []any{&k.kind, &k.name, &k.kindOfValue, &k.isSecret} },
		"select kind, name, type, is_secret from tinydevcrm.definition_keys order by kind, rank")
	if err != nil {
		return nil, err
	}
	keys := make(Keys)
	for _, row := range rows {
		keys[row.kind] = append(keys[row.kind], row)
	}
	return keys, nil
}

func (k Keys) find(kind, name string) (key, bool) {
	for _, key := range k[kind] {
		if key.name == name {
			return key, true
		}
	}
	return key{}, false
}

// A Definition is one that the database has written.
type Definition struct {
	Kind, Name string
	// Schema and Relname name a view as they are. Schema is empty for the first one of the search_path.
	Schema, Relname string
	Values          map[string]json.RawMessage
}

// A Wanted is a definition of a file.
type Wanted struct {
	Kind string `json:"kind"`
	// Name is that of a view as it is, and else as the file has it.
	Name       string         `json:"name"`
	Schema     *string        `json:"schema"`
	Definition map[string]any `json:"definition"`
	// Texts are the values that may be secret, as the file writes them.
	Texts map[string]any `json:"texts"`

	// File and Line are where it is.
	File string `json:"-"`
	Line int    `json:"-"`
	// Query is that of a view, which begins in QueryLine.
	Query     string `json:"-"`
	QueryLine int    `json:"-"`
}

// refuse is an error in a file. Line is 0 when it is about all of it.
func refuse(file string, line int, hint, format string, args ...any) error {
	place := file
	if line > 0 {
		place = fmt.Sprintf("%s:%d", file, line)
	}
	return &db.UserError{
		Status:  http.StatusBadRequest,
		Message: place + ": " + fmt.Sprintf(format, args...),
		Hint:    hint,
	}
}
