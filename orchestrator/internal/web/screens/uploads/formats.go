package uploads

import (
	"slices"
	"strings"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/parts"
)

// Format are the options that say what the file is. They stand above the columns that a preview shows. Where the sheets of
// the file or the files in the zip are known, they are the choices.
func (f *form) Format() parts.OptionGroup {
	found := parts.FillOptions("upload-", f.Option)[0]
	for i, option := range found.Options {
		known := f.choicesOf(option.Name)
		if known == nil {
			continue
		}
		choices := []parts.Choice{{Label: option.Placeholder}}
		if option.Name == "member" {
			choices[0].Label = "choose"
		}
		if given := option.Given; given != "" && !slices.ContainsFunc(known, func(other parts.Choice) bool { return other.Value == given }) {
			choices = append(choices, parts.Choice{Value: given, Label: given})
		}
		found.Options[i].Choices = append(choices, known...)
	}
	return found
}

// IsChoice reports whether the file offers sheets or files to choose from.
func (f *form) IsChoice() bool { return f.choicesOf("sheet") != nil || f.choicesOf("member") != nil }

// choicesOf are the values that the file offers for an option; nil for none.
func (f *form) choicesOf(option string) (found []parts.Choice) {
	for _, choices := range f.Choices {
		for _, value := range choices.Values {
			if choices.Option == option {
				found = append(found, parts.Choice(value))
			}
		}
	}
	return found
}

// FormatNames are all formats of files, in words.
func (f *form) FormatNames() string {
	var names []string
	for _, format := range upload.Formats() {
		names = append(names, format.Label)
	}
	return strings.Join(names, ", ") + ", also as " + strings.Join(upload.PackedEndings(), ", ")
}

// Accepted are the endings of the names of files, for the browser to choose from.
func (f *form) Accepted() string {
	endings := []string{"text/csv"}
	for _, format := range upload.Formats() {
		endings = append(endings, format.Endings...)
	}
	return strings.Join(append(endings, upload.PackedEndings()...), ",")
}

// ReadFromEnd are the endings of files of which a preview needs the whole.
func (f *form) ReadFromEnd() string {
	var endings []string
	for _, format := range upload.Formats() {
		if format.IsReadFromEnd {
			endings = append(endings, format.Endings...)
		}
	}
	return strings.Join(endings, ",")
}
