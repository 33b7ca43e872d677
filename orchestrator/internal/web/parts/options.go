package parts

import (
	"context"
	"database/sql"
	"regexp"
	"slices"
	"strings"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
)

// An Option is one of an import, as forms show it. It has a list of choices, of which the first is the default, or takes
// a text.
type Option struct {
	Name, Label, Placeholder string
	Choices                  []Choice
	// ID is that of its field, and Given what the field shows.
	ID, Given string
}

type Choice struct{ Value, Label string }

// OptionGroups are the options of an import beyond table, mode and key, by topic. The first group says what the file is.
func OptionGroups() []OptionGroup {
	option := func(name, label, placeholder string, choices ...Choice) Option {
		return Option{Name: name, Label: label, Placeholder: placeholder, Choices: choices}
	}
	formats := []Choice{{"", "found in the file"}}
	for _, format := range upload.Formats() {
		formats = append(formats, Choice{format.Name, format.Label})
	}
	stop := Choice{"", "stop: import nothing"}
	return []OptionGroup{
		{"What the file is", []Option{
			option("format", "Format", "", formats...),
			option("sheet", "Sheet of a workbook", "the first with a table"),
			option("member", "File in a zip", "the only one; *.csv, or * for all"),
		}},
		{"How the file is written", []Option{
			option("header", "First line", "", Choice{"", "found in the file"}, Choice{"yes", "names the columns"}, Choice{"no", "is data"}),
			option("columns", "Names of the columns", "from the file"),
			option("delimiter", "Delimiter", "from the file"),
			option("quote", "Quote", "from the file"),
			option("escape", "Escape within quotes", "from the file"),
			option("encoding", "Encoding", "from the file"),
		}},
		{"Lines that are not data", []Option{
			option("skip", "Lines before the header", "from the file"),
			option("skip_after_header", "Lines to skip below the header", "0"),
			option("skip_end", "Lines to skip at the end", "0"),
			option("comment", "What begins comments", "none, or #"),
		}},
		{"Values", []Option{
			option("type", "Types of columns", "zip=text; amount=numeric(10,2)"),
			option("null", "Texts that mean NULL", "the empty text"),
			option("quoted_empty", `What "" means`, "", Choice{"", "the empty text"}, Choice{"null", "NULL"}),
			option("trim", "Blanks around values", "", Choice{"", "belong to them"}, Choice{"yes", "are left out"}),
			option("file_column", "Column for the file's name", "none"),
			option("distribute_by", "Distribute by (Citus)", "a column"),
		}},
		{"What does not fit", []Option{
			option("ragged", "Lines with too few or too many fields", "", stop, Choice{"pad", "fill up, or add columns"}, Choice{"reject", "leave them out"}),
			option("bad", "Lines with values that do not fit", "", stop, Choice{"reject", "leave them out"}),
			option("new_columns", "Columns that only the file has", "", stop, Choice{"add", "add them to the table"}, Choice{"ignore", "ignore them"}),
			option("missing_columns", "Columns that only the table has", "", stop, Choice{"null", "are NULL"}),
			option("keep_table", "The columns of a table that is replaced", "", Choice{"", "become those of the file"}, Choice{"yes", "stay, with their types"}),
			option("widen", "Values that a column of the table cannot hold", "", stop, Choice{"yes", "give the column a wider type"}),
			option("reject_limit", "How many lines may be left out", "1000"),
		}},
	}
}

// An OptionGroup has the options of one topic.
type OptionGroup struct {
	Name    string
	Options []Option
}

// IsSet reports whether one of them is set.
func (g OptionGroup) IsSet() bool {
	return slices.ContainsFunc(g.Options, func(option Option) bool { return option.Given != "" })
}

// FillOptions returns the groups with what is given, for the template "options". The ids of the fields begin with prefix.
func FillOptions(prefix string, given func(name string) string) []OptionGroup {
	groups := OptionGroups()
	for _, group := range groups {
		for i := range group.Options {
			option := &group.Options[i]
			option.ID, option.Given = prefix+option.Name, given(option.Name)
		}
	}
	return groups
}

// FindOption finds an option by its name.
func FindOption(name string) (Option, bool) {
	for _, group := range OptionGroups() {
		for _, option := range group.Options {
			if option.Name == name {
				return option, true
			}
		}
	}
	return Option{}, false
}

// LabelOf is an option with a value as the form says it; empty when it has no such choice.
func (o Option) LabelOf(value string) string {
	if o.Choices == nil {
		return o.Label + ": " + value
	}
	at := slices.IndexFunc(o.Choices, func(choice Choice) bool { return choice.Value == value })
	if at < 0 {
		return ""
	}
	return o.Label + ": " + o.Choices[at].Label
}

// Said is what is given, as the form says it.
func (o Option) Said() string {
	if said, isChoice := strings.CutPrefix(o.LabelOf(o.Given), o.Label+": "); isChoice {
		return said
	}
	return o.Given
}

// optionInHint is an option of the command line, as hints name it, with its value if there is one.
const optionInHint = `--([a-z-]+)(?: ('[^']*'|[^\s,;.)]+(?:\.[^\s,;.)]+)*))?`

// A HintedOption is one that a hint names. Value is empty when it gives none.
type HintedOption struct{ Name, Value string }

// HintedOptions are the options that a hint names.
func HintedOptions(hint string) (hinted []HintedOption) {
	for _, found := range regexp.MustCompile(optionInHint).FindAllStringSubmatch(hint, -1) {
		hinted = append(hinted, hintedOf(found))
	}
	return hinted
}

func hintedOf(found []string) HintedOption {
	return HintedOption{strings.ReplaceAll(found[1], "-", "_"), strings.Trim(found[2], "'")}
}

// InWords is a hint with the labels of the form in place of the options of the command line.
func InWords(hint string) string {
	return regexp.MustCompile(optionInHint).ReplaceAllStringFunc(hint, func(text string) string {
		hinted := HintedOptions(text)[0]
		option, isThere := FindOption(hinted.Name)
		if !isThere {
			return text
		}
		if label := option.LabelOf(hinted.Value); hinted.Value != "" && hinted.Name != "reject_limit" && label != "" {
			return "“" + label + "”"
		}
		return strings.Replace(text, "--"+strings.ReplaceAll(hinted.Name, "_", "-"), "“"+option.Label+"”", 1)
	})
}

// A Mode is a row of tinydevcrm.import_modes.
type Mode struct {
	Name, Label string
	TakesKey    bool
}

func (m *Mode) fields() []any { return []any{&m.Name, &m.Label, &m.TakesKey} }

// ReadModes reads the modes of imports, the default first.
func ReadModes(ctx context.Context, pool *sql.DB) ([]Mode, error) {
	return db.Collect(ctx, pool, "read the modes", (*Mode).fields, "select name, label, takes_key from tinydevcrm.import_modes order by rank")
}
