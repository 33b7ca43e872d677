package upload

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/text/unicode/norm"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

// maxSkipEnd bounds the lines that are kept in memory until the end of the file is known.
const maxSkipEnd = 10_000

// An Option is a setting of a Request. Its name is that of the field in a form and in a URL; as a flag it has -
// for _.
type Option struct {
	Name, Usage string
	setter
}

// errRepeated means that an option with one value is given several.
var errRepeated = errors.New("repeated")

// Options are all options of an upload.
func Options() []Option {
	return []Option{
		{"table", "name of the table (default: the file's)", text(func(r *Request) *string { return &r.Table })},
		{"mode", "create (the default), replace (new rows for the old), append (to the old), or upsert (by key)",
			text(func(r *Request) *string { return &r.Mode })},
		{"key", "column by which mode upsert finds a row; repeat it, or a,b, for more", list(func(r *Request) *[]string { return &r.Key })},
		{"distribute_by", "on a Citus coordinator: column by which the table is distributed across the workers; a small table is copied to each",
			text(func(r *Request) *string { return &r.DistributeBy })},
		{"type", "column=type, to choose the type of a column; repeat it, or a=b;c=d, for more; a name may be quoted as in SQL", setter{set: setTypes}},
		{"null", "text that means NULL, in addition to the empty text; repeat it, or NA,-, for more", list(func(r *Request) *[]string { return &r.Nulls })},
		{"format", "how the file is written: " + strings.Join(formatNames(), ", ") + " (default: found in the file)",
			oneOf(formatNames(), func(r *Request, value string) { r.Format = value })},
		{"member", "file in a zip of several, or a pattern such as '*.csv' for several into one table; repeat it for more",
			setter{set: func(r *Request, values []string) error { r.Members = values; return nil }}},
		{sheetOption, "sheet of a workbook (default: the first with a table)", text(func(r *Request) *string { return &r.Sheet })},
		{"quoted_empty", `what "" means: text (the default: the empty text) or null`, oneOf([]string{"text", "null"},
			func(r *Request, value string) { r.IsQuotedEmptyNull = value == "null" })},
		{"trim", "whether blanks around values are left out: yes or no (the default)", oneOf([]string{"yes", "no"},
			func(r *Request, value string) { r.IsTrimmed = value == "yes" })},
		{"file_column", "name of a further column for the name of the file, such as when there are several",
			text(func(r *Request) *string { return &r.FileColumn })},
		{"new_columns", "columns that only the file has: refuse (the default), add (to the table) or ignore",
			oneOf([]string{"refuse", "add", "ignore"}, shape("new_columns"))},
		{"missing_columns", "columns that only the table has: refuse (the default) or null (the default for JSON)",
			oneOf([]string{"refuse", "null"}, shape("missing_columns"))},
		{"widen", "whether a column of the table gets a wider type when values do not fit: yes or no (the default)",
			oneOf([]string{"yes", "no"}, shape("widen"))},
		{"keep_table", "whether mode replace keeps the columns and types of the table, as append does: yes or no (the default)",
			oneOf([]string{"yes", "no"}, shape("keep_table"))},
		{"ragged", "lines with too few or too many fields: strict (the default: refuse the file), pad (fill up, add columns), or " +
			"reject (leave them out)", oneOf([]string{"strict", "pad", "reject"}, func(r *Request, value string) { r.Ragged = value })},
		{"bad", "lines with values that do not fit a given type, or the table: refuse (the default) or reject (leave them out)",
			oneOf([]string{"refuse", "reject"}, shape("bad"))},
		{"reject_limit", "how many lines may be left out (default: 1000)", number(1, math.MaxInt32, func(r *Request, count int) { r.RejectLimit = int64(count) })},
		{"header", "whether the first line names the columns: yes or no, or how many lines do (default: found in the file)", one(setHeader)},
		{"columns", "names of the columns, a,b,c, in the order of the file; for a file without a header",
			list(func(r *Request) *[]string { return &r.Columns })},
		{"delimiter", "separates fields: characters, or tab or space (default: found in the file)",
			text(func(r *Request) *string { return &r.Delimiter })},
		{"quote", "encloses fields: a character, or none (default: found in the file)", text(func(r *Request) *string { return &r.Quote })},
		{"escape", "precedes a quote within quotes: the quote again, or a backslash (default: found in the file)",
			text(func(r *Request) *string { return &r.Escape })},
		{"encoding", "UTF8, LATIN1, WIN1252 and others (default: found in the file)", text(func(r *Request) *string { return &r.Encoding })},
		{"skip", "lines to skip before the header (default: found in the file)", number(0, math.MaxInt32, func(r *Request, count int) { r.Skip = &count })},
		{"skip_after_header", "lines to skip below the header, such as units", number(0, math.MaxInt32, func(r *Request, count int) { r.SkipAfterHeader = count })},
		{"skip_end", "lines to skip at the end of the file, such as totals; blank lines do not count",
			number(0, maxSkipEnd, func(r *Request, count int) { r.SkipEnd = count })},
		{"comment", "text at the beginning of lines to skip, such as #", text(func(r *Request) *string { return &r.Comment })},
	}
}

// A setter of an option takes its values.
type setter struct {
	set func(*Request, []string) error
	// Words are the only values; nil when there are others.
	Words []string
}

func one(set func(*Request, string) error) setter {
	return setter{set: func(r *Request, values []string) error {
		if len(values) > 1 {
			return errRepeated
		}
		return set(r, values[0])
	}}
}

func text(field func(*Request) *string) setter {
	return one(func(r *Request, value string) error {
		*field(r) = value
		return nil
	})
}

// list takes values that are separated by commas.
func list(field func(*Request) *[]string) setter {
	return setter{set: func(r *Request, values []string) error {
		for _, value := range values {
			for item := range strings.SplitSeq(value, ",") {
				*field(r) = append(*field(r), norm.NFC.String(strings.TrimSpace(item)))
			}
		}
		return nil
	}}
}

func oneOf(words []string, set func(*Request, string)) setter {
	chosen := one(func(r *Request, value string) error {
		if !slices.Contains(words, value) {
			return badChoice(strings.Join(words, " or "))
		}
		set(r, value)
		return nil
	})
	chosen.Words = words
	return chosen
}

func number(least, most int, set func(*Request, int)) setter {
	return one(func(r *Request, value string) error {
		count, err := strconv.Atoi(value)
		if err != nil || count < least || count > most {
			return badChoice(fmt.Sprintf("a number of lines, %d to %d", least, most))
		}
		set(r, count)
		return nil
	})
}

// badChoice is the error for a value that is none of those that an option takes.
type badChoice string

func (c badChoice) Error() string { return "not " + string(c) }

// shape sets an option of begin_import().
func shape(name string) func(*Request, string) {
	return func(r *Request, value string) {
		if r.Shape == nil {
			r.Shape = make(map[string]string)
		}
		r.Shape[name] = value
	}
}

func setHeader(r *Request, value string) error {
	if count, err := strconv.Atoi(value); err == nil && count > 0 && count <= 100 {
		r.HeaderLines = count
		value = "yes"
	}
	has := value == "yes"
	if !has && value != "no" {
		return badChoice("yes, no, or a number of lines")
	}
	r.HasHeader = &has
	return nil
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
			r.Types[norm.NFC.String(name)] = typeName
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
		request.given = append(request.given, name)
		err := options[at].set(&request, given)
		if errors.Is(err, errRepeated) {
			err = &db.UserError{
				Status:  http.StatusUnprocessableEntity,
				Code:    "TD007",
				Message: fmt.Sprintf("%s is given %d times", name, len(given)),
				Hint:    "Give it once.",
			}
		}
		if choice, isBad := errors.AsType[badChoice](err); isBad {
			err = badOption(name, given[0], "Write "+string(choice)+".")
		}
		if err != nil {
			return Request{}, err
		}
	}
	if request.Columns != nil && request.HasHeader == nil {
		request.HasHeader = new(bool)
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
