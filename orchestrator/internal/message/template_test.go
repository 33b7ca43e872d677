package message

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// Each name that the documentation gives a template is there, if only as an empty value.
func TestDocumentedNamesExist(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../migrations/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "| in a template | what it is |")
	table, _, _ = strings.Cut(table, "\n\n")
	m := parsed(t, notification(t, "", "", strings.Replace(twoAdded, "{", `{"reason": null, "updated": [], "removed": [], `, 1)))
	values := m.values(func(text string) string { return text })
	// These are columns, and parts of an updated row.
	elsewhere := map[string]bool{"due": true, "new": true}
	found := 0
	for _, match := range regexp.MustCompile(`\{\{[#^/]?([a-z_]+)`).FindAllStringSubmatch(table, -1) {
		if _, isThere := values[match[1]]; !isThere && !elsewhere[match[1]] {
			t.Errorf("there is no %s", match[1])
		}
		found++
	}
	if found < 20 {
		t.Errorf("the documentation has %d names", found)
	}
}
