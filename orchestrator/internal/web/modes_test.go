package web_test

import (
	"regexp"
	"strings"
	"testing"
)

// The form lists the rows of the table, whatever they say.
func TestModesOfTheForm(t *testing.T) {
	f := newFixture(t)
	t.Cleanup(func() {
		f.pool.Exec("update tinydevcrm.import_modes set label = replace(label, ' of this test', '') where name = 'append'")
	})
	f.exec("update tinydevcrm.import_modes set label = label || ' of this test' where name = 'append'")

	_, list, _ := strings.Cut(f.send(get("/upload").fromBrowser()).body, `<select id="upload-mode" name="mode">`)
	list, _, _ = strings.Cut(list, "</select>")
	var got []string
	for _, option := range regexp.MustCompile(`<option value="([a-z]*)"[^>]*>(.*)</option>`).FindAllStringSubmatch(list, -1) {
		got = append(got, option[1]+"="+option[2])
	}
	want := f.text("select string_agg(name || '=' || label, E'\n' order by rank) from tinydevcrm.import_modes")
	if strings.Join(got, "\n") != want || !strings.Contains(want, "append to its rows of this test") {
		t.Errorf("the form lists %q, want %q", got, want)
	}
}
