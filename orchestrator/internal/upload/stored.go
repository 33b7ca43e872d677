package upload

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/lib/pq"
)

// StoreOptions checks the options of a form, and writes as JSON those that a source keeps: all that are given but
// table, mode and key.
func StoreOptions(name string, values url.Values) (Request, string, error) {
	request, err := NewRequest(name, values)
	if err != nil {
		return request, "", err
	}
	kept := make(map[string]any)
	for option, texts := range values {
		given := slices.DeleteFunc(slices.Clone(texts), func(text string) bool { return text == "" })
		switch {
		case len(given) == 0, option == "table", option == "mode", option == "key":
		case option == "type":
			kept[option] = request.Types
		case len(given) == 1:
			kept[option] = given[0]
		default:
			kept[option] = given
		}
	}
	document, err := json.Marshal(kept)
	if err != nil {
		return request, "", fmt.Errorf("write the options: %w", err)
	}
	return request, string(document), nil
}

// ReadOptions reads the options that a source keeps as a form has them.
func ReadOptions(document []byte) (url.Values, error) {
	var options map[string]any
	decoder := json.NewDecoder(bytes.NewReader(document))
	// A number stays as it is written.
	decoder.UseNumber()
	if err := decoder.Decode(&options); err != nil {
		return nil, fmt.Errorf("read the options: %w", err)
	}
	values := make(url.Values)
	for name, option := range options {
		switch option := option.(type) {
		case nil:
		case []any:
			for _, item := range option {
				values.Add(name, fmt.Sprint(item))
			}
		case map[string]any:
			for _, column := range slices.Sorted(maps.Keys(option)) {
				values.Add(name, TypeOption(column, fmt.Sprint(option[column])))
			}
		default:
			values.Add(name, fmt.Sprint(option))
		}
	}
	return values, nil
}

// TypeOption is the value of the option "type" for one column.
func TypeOption(column, typeName string) string {
	if strings.ContainsAny(column, `;"`) || strings.TrimSpace(column) != column {
		column = pq.QuoteIdentifier(column)
	}
	return column + "=" + typeName
}
