package migrations_test

import (
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/migrations"
)

// TestEachPrefixStandsAlone finds objects that a body, view, trigger, policy, default or hint names before a
// later migration creates them. The server does not find them, because it checks a body only when it runs.
func TestEachPrefixStandsAlone(t *testing.T) {
	names, err := fs.Glob(migrations.Files, "*.up.sql")
	if err != nil {
		t.Fatal(err)
	}
	var all []migration
	for _, name := range names {
		text, err := fs.ReadFile(migrations.Files, name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, migration{strings.TrimSuffix(name[len("000001_"):], ".up.sql"), string(text)})
	}
	for _, reference := range forwardReferences(all) {
		t.Errorf("%s, a later migration", reference)
	}
}

// The search must find something of each kind here, or it would find nothing anywhere.
func TestForwardReferencesAreFound(t *testing.T) {
	found := forwardReferences([]migration{
		{"a", `create table tinydevcrm.u ();
			create table tinydevcrm.t (
				n integer default tinydevcrm.in_default(),
				own integer
			);
			create function tinydevcrm.f() returns void as $$ begin
				perform tinydevcrm.in_body(); -- not tinydevcrm.in_remark()
				execute 'select tinydevcrm.in_text()';
				update tinydevcrm.t set added = 1;
				return query select t.also_added, own from tinydevcrm.t, tinydevcrm.nowhere;
			end $$;
			comment on function tinydevcrm.f() is
			    'As tinydevcrm.in_comment(); '
			    'and it''s so.';
			create trigger x after insert on tinydevcrm.t execute function tinydevcrm.in_trigger();`},
		{"b", `create function tinydevcrm.in_default(); create or replace procedure tinydevcrm.in_body();
			create view tinydevcrm.in_text as select added from tinydevcrm.t; create type tinydevcrm.in_trigger;
			create function tinydevcrm.in_remark(); create function tinydevcrm.in_comment();
			alter table tinydevcrm.t
			    add column added integer,
			    add constraint t_is_added check (added > 0),
			    add column also_added integer;
			alter table tinydevcrm.u add column own integer;`},
	})
	want := []string{
		"a names in_body of b", "a names in_default of b", "a names in_text of b", "a names in_trigger of b",
		"a names nowhere of no migration", "a names t.added of b", "a names t.also_added of b",
	}
	if !slices.Equal(found, want) {
		t.Errorf("found %q, want %q", found, want)
	}
}

// A migration has its name without the number, and its statements.
type migration struct{ name, text string }

var (
	sqlCommentOn = regexp.MustCompile(`(?s)\bcomment\s+on\s[^';]*\sis\s+(?:'(?:[^']|'')*'\s*)+;`)
	made         = regexp.MustCompile(
		`\bcreate\s+(?:or\s+replace\s+)?(?:table|view|function|procedure|type|domain|sequence)\s+tinydevcrm\.(\w+)`)
	altered     = regexp.MustCompile(`\balter\s+table\s+tinydevcrm\.(\w+)\s([^;]*)`)
	addedColumn = regexp.MustCompile(`\badd\s+column\s+(\w+)`)
	named       = regexp.MustCompile(`\btinydevcrm\.(\w+)`)
)

// forwardReferences compares only names: it does not distinguish functions of the same name.
func forwardReferences(all []migration) []string {
	makers, columns := make(map[string]int), make(map[string]int)
	for i, m := range all {
		m.text = sqlCommentOn.ReplaceAllString(sqlComment.ReplaceAllString(m.text, ""), "")
		all[i] = m
		for _, parts := range made.FindAllStringSubmatch(m.text, -1) {
			if _, isMade := makers[parts[1]]; !isMade {
				makers[parts[1]] = i
			}
		}
		for _, table := range altered.FindAllStringSubmatch(m.text, -1) {
			for _, column := range addedColumn.FindAllStringSubmatch(table[2], -1) {
				columns[table[1]+"."+column[1]] = i
			}
		}
	}
	references := make(map[string]bool)
	for i, m := range all {
		for _, parts := range named.FindAllStringSubmatch(m.text, -1) {
			if maker, isMade := makers[parts[1]]; !isMade {
				references[fmt.Sprintf("%s names %s of no migration", m.name, parts[1])] = true
			} else if maker > i {
				references[fmt.Sprintf("%s names %s of %s", m.name, parts[1], all[maker].name)] = true
			}
		}
		for name, maker := range columns {
			if maker > i && namesColumn(all[:i+1], name) {
				references[fmt.Sprintf("%s names %s of %s", m.name, name, all[maker].name)] = true
			}
		}
	}
	var sorted []string
	for reference := range references {
		sorted = append(sorted, reference)
	}
	slices.Sort(sorted)
	return sorted
}

// namesColumn reports whether the last of the migrations names a column, "table.column", that a later one adds:
// as table.column; or, where it also names the table, as a word that is no other column, parameter or variable
// so far.
func namesColumn(prefix []migration, name string) bool {
	table, column, _ := strings.Cut(name, ".")
	text := prefix[len(prefix)-1].text
	if regexp.MustCompile(`\b` + table + `\.` + column + `\b`).MatchString(text) {
		return true
	}
	declared := regexp.MustCompile(`(?m)^\s*` + column + `\s+(?:bigint|boolean|integer|interval|jsonb|name|regclass|text|timestamptz)\b`)
	return regexp.MustCompile(`\btinydevcrm\.`+table+`\b`).MatchString(text) &&
		regexp.MustCompile(`\b`+column+`\b`).MatchString(text) &&
		!slices.ContainsFunc(prefix, func(m migration) bool { return declared.MatchString(m.text) })
}
