package upload

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

// An Option is a setting of a Request. Its name is that of the field in a form and in a URL; as a flag it has -
// for _.
type Option struct {
	Name, Usage string
	set         func(*Request, []string) error
}

// errRepeated means that an option with one value is given several.
var errRepeated = errors.New("repeated")

// Options are all options of an upload.
func Options() []Option {
	one := func(set func(*Request, string) error) func(*Request, []string) error {
		return func(r *Request, values []string) error {
			if len(values) > 1 {
				return errRepeated
			}
			return set(r, values[0])
		}
	}
	text := func(field func(*Request) *string) func(*Request, []string) error {
		return one(func(r *Request, value string) error {
			*field(r) = value
			return nil
		})
	}
	return []Option{
		{"table", "name of the table (default: the file's)", text(func(r *Request) *string { return &r.Table })},
		{"mode", "create (the default), replace (new rows for the old), append (to the old), or upsert (by key)",
			text(func(r *Request) *string { return &r.Mode })},
		{"key", "column by which mode upsert finds a row; repeat it, or a,b, for more", func(r *Request, values []string) error {
			for _, value := range values {
				for key := range strings.SplitSeq(value, ",") {
					r.Key = append(r.Key, strings.TrimSpace(key))
				}
			}
			return nil
		}},
		{"distribute_by", "on a Citus coordinator: column by which the table is distributed across the workers; a small table is copied to each",
			text(func(r *Request) *string { return &r.DistributeBy })},
		{"type", "column=type, to choose the type of a column; repeat it, or a=b;c=d, for more; a name may be quoted as in SQL", setTypes},
		{"null", "text that means NULL, in addition to the empty text", text(func(r *Request) *string { return &r.Null })},
		{"ragged", "lines with too few or too many fields: strict (the default: refuse the file) or pad (fill up, add columns)",
			text(func(r *Request) *string { return &r.Ragged })},
		{"header", "whether the first line names the columns: yes or no (default: found in the file)", one(func(r *Request, value string) error {
			has := value == "yes"
			if !has && value != "no" {
				return badOption("header", value, "Write yes or no.")
			}
			r.HasHeader = &has
			return nil
		})},
		{"delimiter", "separates fields: a character, or tab or space (default: found in the file)",
			text(func(r *Request) *string { return &r.Delimiter })},
		{"quote", "encloses fields (default: found in the file)", text(func(r *Request) *string { return &r.Quote })},
		{"escape", "precedes a quote within quotes: the quote again, or a backslash (default: found in the file)",
			text(func(r *Request) *string { return &r.Escape })},
		{"encoding", "UTF8, LATIN1, WIN1252 and others (default: found in the file)", text(func(r *Request) *string { return &r.Encoding })},
		{"skip", "lines to skip before the header (default: found in the file)", one(func(r *Request, value string) error {
			lines, err := strconv.Atoi(value)
			if err != nil || lines < 0 {
				return badOption("skip", value, "Write a number of lines.")
			}
			r.Skip = &lines
			return nil
		})},
	}
}

func setTypes(r *Request, values []string) error {
	r.Types = make(map[string]string)
	for _, value := range values {
		for rest := value; strings.TrimSpace(rest) != ""; {
			var name, typeName string
			name, rest = cutName(strings.TrimSpace(rest))
			typeName, rest, _ = strings.Cut(rest, ";")
			if typeName = strings.TrimSpace(typeName); name == "" || typeName == "" {
				return badOption("type", value, "Write column=type, such as zip=text.")
			}
			r.Types[name] = typeName
		}
	}
	return nil
}

// cutName cuts a column's name off the beginning of a text, with the separator after it. A quoted name, written
// like an identifier, may contain any character.
func cutName(text string) (name, rest string) {
	if !strings.HasPrefix(text, `"`) {
		item, _, _ := strings.Cut(text, ";")
		at := strings.LastIndexByte(item, '=')
		if at < 0 {
			return "", ""
		}
		return strings.TrimSpace(item[:at]), text[at+1:]
	}
	for at := 1; at < len(text); at++ {
		switch {
		case text[at] != '"':
		case strings.HasPrefix(text[at:], `""`):
			at++
		default:
			rest, isFollowed := strings.CutPrefix(strings.TrimSpace(text[at+1:]), "=")
			if !isFollowed {
				return "", ""
			}
			return strings.ReplaceAll(text[1:at], `""`, `"`), rest
		}
	}
	return "", ""
}

func badOption(name, value, hint string) error {
	return &db.UserError{
		Status:  http.StatusUnprocessableEntity,
		Code:    "TD007",
		Message: fmt.Sprintf("%s cannot be %q", name, value),
		Hint:    hint,
	}
}

// NewRequest makes a Request from options by name. An empty value counts as not given.
func NewRequest(source string, values url.Values) (Request, error) {
	request := Request{Source: source}
	options := Options()
	for _, name := range slices.Sorted(maps.Keys(values)) {
		given := slices.DeleteFunc(slices.Clone(values[name]), func(value string) bool { return value == "" })
		if len(given) == 0 {
			continue
		}
		at := slices.IndexFunc(options, func(option Option) bool { return option.Name == name })
		if at < 0 {
			return Request{}, unknownOption(name, options)
		}
		err := options[at].set(&request, given)
		if errors.Is(err, errRepeated) {
			err = &db.UserError{
				Status:  http.StatusUnprocessableEntity,
				Code:    "TD007",
				Message: fmt.Sprintf("%s is given %d times", name, len(given)),
				Hint:    "Give it once.",
			}
		}
		if err != nil {
			return Request{}, err
		}
	}
	return request, nil
}

func unknownOption(name string, options []Option) error {
	names := make([]string, len(options))
	for i, option := range options {
		names[i] = option.Name
	}
	return &db.UserError{
		Status:  http.StatusUnprocessableEntity,
		Code:    "TD007",
		Message: fmt.Sprintf("an upload has no option %q", name),
		Hint:    "The options are " + strings.Join(names, ", ") + ".",
	}
}
