package upload

import (
	"fmt"
	"path"
	"strings"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/archive"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/workbook"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/words"
)

const (
	// maxChoices is how many sheets of a workbook or files of a zip are offered. Of more, one has to be named.
	maxChoices = 200
	// shownColumns is how many cells show what is in a sheet, and shownCell how many bytes of each.
	shownColumns, shownCell = 6, 30
)

// choices are what else could be imported from the file.
func (l *loader) choices() []db.Choices {
	var all []db.Choices
	if l.zip != nil {
		if found := memberChoices(l.zip.Members()); found != nil {
			all = append(all, *found)
		}
	}
	if l.book != nil {
		if found := sheetChoices(l.book); found != nil {
			all = append(all, *found)
		}
	}
	return all
}

// memberChoices are the files of a zip, those with the same ending, and all; nil for one file, or too many.
func memberChoices(members []archive.Member) *db.Choices {
	if len(members) < 2 || len(members) > maxChoices {
		return nil
	}
	found := &db.Choices{Option: "member"}
	var endings []string
	count := make(map[string]int)
	for _, member := range members {
		found.Values = append(found.Values,
			db.Choice{Value: member.Name, Label: fmt.Sprintf("%s (%s)", printable([]byte(member.Name)), words.Bytes(int64(member.Size)))})
		ending := path.Ext(path.Base(member.Name))
		if count[ending]++; count[ending] == 2 && ending != "" && !strings.ContainsAny(ending, `*?[\`) {
			endings = append(endings, ending)
		}
	}
	for _, ending := range endings {
		if count[ending] < len(members) {
			found.Values = append(found.Values,
				db.Choice{Value: "*" + ending, Label: fmt.Sprintf("all %d files *%s, into one table", count[ending], ending)})
		}
	}
	found.Values = append(found.Values, db.Choice{Value: "*", Label: fmt.Sprintf("all %d files, into one table", len(members))})
	return found
}

// sheetChoices are the sheets of a workbook, each with its first row and its size; nil for one sheet, or too many.
func sheetChoices(book *workbook.Workbook) *db.Choices {
	sheets := book.Sheets()
	if len(sheets) < 2 || len(sheets) > maxChoices {
		return nil
	}
	found := &db.Choices{Option: sheetOption}
	for _, sheet := range sheets {
		found.Values = append(found.Values, db.Choice{Value: sheet.Name, Label: outlineOf(book, sheet)})
	}
	return found
}

// outlineOf says what is in a sheet: its name, its first values, and where its cells are.
func outlineOf(book *workbook.Workbook, sheet workbook.Sheet) string {
	outline := sheet.Name
	if sheet.IsHidden {
		outline += " (hidden)"
	}
	first, area, err := book.Outline(sheet)
	if err != nil || len(first) == 0 {
		return outline + ": no values"
	}
	cells := make([]string, min(len(first), shownColumns))
	for i := range cells {
		cells[i] = excerptOf([]byte(first[i]), shownCell)
	}
	outline += ": " + strings.Join(cells, ", ")
	if len(first) > len(cells) {
		outline += ", …"
	}
	if strings.Contains(area, ":") {
		outline += "; " + area
	}
	return outline
}
