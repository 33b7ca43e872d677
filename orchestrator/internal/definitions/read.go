package definitions

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// maxFile is how large a file may be: enough for thousands of subscriptions, and not for all memory.
const maxFile = 16 << 20

// A reader reads the files of a folder.
type reader struct {
	keys   Keys
	secret expander
}

// Read reads the definitions in a folder. getenv gives what they refer to.
func Read(folder string, keys Keys, getenv func(string) string) ([]Wanted, error) {
	r := &reader{keys: keys, secret: expander{getenv: getenv}}
	// A link of a proposal must not lead out of its folder: errors and plans show what is in files.
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, refuse(folder, 0, "orchestrator export writes one.", "this is no folder that can be read")
	}
	defer root.Close()
	files := root.FS()
	wanted, err := r.readMain(files)
	if err != nil {
		return nil, err
	}
	views, err := r.readViews(files)
	if err != nil {
		return nil, err
	}
	if wanted == nil && views == nil {
		// Otherwise a misspelt name with --prune would drop everything.
		return nil, refuse(folder, 0, "orchestrator export writes them.", "there is neither %s nor a file in %s", mainFile, viewsFolder)
	}
	return append(wanted, views...), r.secret.problem()
}

// readMain reads tinydevcrm.yaml; nil when there is none.
func (r *reader) readMain(files fs.FS) ([]Wanted, error) {
	text, err := readText(files, mainFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	document, err := parse(mainFile, []byte(text))
	if err != nil {
		return nil, err
	}
	parts, err := pairs(mainFile, document)
	if err != nil {
		return nil, err
	}
	wanted := []Wanted{}
	for _, part := range parts {
		kind := ""
		for _, plural := range plurals {
			if plural.name == part.name {
				kind = plural.kind
			}
		}
		if kind == "" {
			return nil, refuse(mainFile, part.line, "It has tables, sources and subscriptions; views have files of their own.", "unknown key %s", part.name)
		}
		entries, err := pairs(mainFile, part.value)
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			one := Wanted{Kind: kind, Name: entry.name, File: mainFile, Line: entry.line}
			if err := r.fill(&one, entry.value); err != nil {
				return nil, err
			}
			wanted = append(wanted, one)
		}
	}
	return wanted, nil
}

// fill reads the keys of a definition.
func (r *reader) fill(one *Wanted, node *yaml.Node) error {
	one.Definition, one.Texts = map[string]any{}, map[string]any{}
	entries, err := pairs(one.File, node)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		key, isKnown := r.keys.find(one.Kind, entry.name)
		if !isKnown {
			return refuse(one.File, entry.line, "The keys are "+r.keys.list(one.Kind)+".", "unknown key %s of a %s", entry.name, one.Kind)
		}
		value, err := read(one.File, key, entry.value)
		if err != nil {
			return err
		}
		if value == nil {
			continue
		}
		one.Definition[key.name] = value
		if key.isSecret {
			one.Texts[key.name] = value
			if one.Definition[key.name], err = r.expand(*one, key.name, entry, value); err != nil {
				return err
			}
		}
	}
	return nil
}

// list names the keys of a kind.
func (k Keys) list(kind string) string {
	var names []string
	for _, key := range k[kind] {
		if key.kindOfValue != "query" {
			names = append(names, key.name)
		}
	}
	return strings.Join(names, ", ")
}

// expand replaces the references to the environment in a text, or in the texts of an object.
func (r *reader) expand(one Wanted, name string, entry pair, value any) (any, error) {
	where := one.File + ":" + strconv.Itoa(entry.line) + ": " + one.Kind + " " + one.Name + ", " + name
	texts, isObject := value.(map[string]any)
	if !isObject {
		texts = map[string]any{"": value}
	}
	expanded := make(map[string]any)
	for part, value := range texts {
		// Headers are texts, also those that look like numbers.
		text := fmt.Sprint(value)
		texts[part] = text
		place := where
		if isObject {
			place += " " + part
		}
		var isValid bool
		if expanded[part], isValid = r.secret.expand(place, text); !isValid {
			return nil, refuse(one.File, entry.line, "Write ${NAME} for a variable of the environment, and $${ for ${ itself.", "%s has a ${ that names no variable", name)
		}
	}
	if isObject {
		return expanded, nil
	}
	return expanded[""], nil
}

// readViews reads the files of views; nil when there are none.
func (r *reader) readViews(files fs.FS) ([]Wanted, error) {
	var views []Wanted
	seen := make(map[string]string)
	err := fs.WalkDir(files, viewsFolder, func(file string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return refuse(file, 0, "", "it cannot be read: %v", err)
		case entry.Type()&fs.ModeSymlink != 0 && isFolder(files, file):
			return refuse(file, 0, "Put the files there themselves.", "a link to a folder is not followed")
		case entry.IsDir() || !strings.HasSuffix(file, viewEnding):
			return nil
		}
		view, err := r.readView(files, file)
		if err != nil {
			return err
		}
		name := view.Name
		if view.Schema != nil {
			name = *view.Schema + "\x00" + name
		}
		if other, isSeen := seen[name]; isSeen {
			return refuse(file, 0, "Remove one of them.", "%s is of the same view", other)
		}
		seen[name] = file
		views = append(views, view)
		return nil
	})
	return views, err
}

func isFolder(files fs.FS, file string) bool {
	info, err := fs.Stat(files, file)
	return err == nil && info.IsDir()
}

func (r *reader) readView(files fs.FS, file string) (Wanted, error) {
	view := Wanted{Kind: "view", File: file, Line: 1}
	var err error
	if view.Schema, view.Name, err = readViewPath(file); err != nil {
		return view, err
	}
	text, err := readText(files, file)
	if err != nil {
		return view, err
	}
	settings, query := splitView(text)
	node, err := parse(file, []byte(settings))
	if err != nil {
		return view, err
	}
	if node != nil && node.Kind != yaml.MappingNode {
		return view, refuse(file, node.Line, "Put an empty line before comments that belong to the query.", "%s is no setting", shorten(node))
	}
	if err := r.fill(&view, node); err != nil {
		return view, err
	}
	view.Query, view.QueryLine = query, 1+strings.Count(settings, "\n")
	view.Definition["query"] = query
	return view, nil
}

// splitView parts the comments at the top of a file, without their dashes, from the rest.
func splitView(text string) (settings, query string) {
	var b strings.Builder
	for line := range strings.Lines(text) {
		comment, isComment := strings.CutPrefix(line, "--")
		if !isComment {
			break
		}
		query += line
		b.WriteString(strings.TrimPrefix(comment, " "))
	}
	return b.String(), text[len(query):]
}

// readText reads a file of UTF-8. Its lines end in LF, whatever Git has made of them.
func readText(files fs.FS, file string) (string, error) {
	info, err := fs.Stat(files, file)
	if err == nil && !info.Mode().IsRegular() {
		// A pipe would be waited for.
		return "", refuse(file, 0, "", "it is no file")
	}
	if err == nil && info.Size() > maxFile {
		return "", refuse(file, 0, "A query has up to 1,000,000 bytes.", "it has more than %d MB", maxFile>>20)
	}
	var text []byte
	if err == nil {
		text, err = fs.ReadFile(files, file)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if err != nil {
		return "", refuse(file, 0, "", "it cannot be read: %v", err)
	}
	if !utf8.Valid(text) || strings.ContainsRune(string(text), 0) {
		return "", refuse(file, 0, "Save it as UTF-8.", "it is not UTF-8")
	}
	return strings.ReplaceAll(strings.TrimPrefix(string(text), "\ufeff"), "\r\n", "\n"), nil
}
