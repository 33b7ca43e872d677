package definitions

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// Write writes the files of definitions to a folder, and returns those files of views that are of none of them, which
// stay.
func Write(folder string, keys Keys, definitions []Definition) (stale []string, err error) {
	var views, others []Definition
	for _, definition := range definitions {
		if definition.Kind == "view" {
			views = append(views, definition)
		} else {
			others = append(others, definition)
		}
	}
	text, err := keys.formatMain(others)
	if err != nil {
		return nil, err
	}
	if err := writeFile(folder, mainFile, heading+text); err != nil {
		return nil, err
	}
	written := make(map[string]bool)
	for i, file := range viewPaths(views) {
		text, err := keys.formatView(views[i])
		if err != nil {
			return nil, err
		}
		if err := writeFile(folder, file, text); err != nil {
			return nil, err
		}
		written[file] = true
	}
	err = fs.WalkDir(os.DirFS(folder), viewsFolder, func(file string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && !entry.IsDir() && strings.HasSuffix(file, viewEnding) && !written[file] {
			stale = append(stale, file)
		}
		return err
	})
	return stale, err
}

// writeFile replaces a file as a whole, unless it is so already.
func writeFile(folder, file, text string) error {
	target := filepath.Join(folder, filepath.FromSlash(file))
	if present, err := os.ReadFile(target); err == nil && string(present) == text {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o777); err != nil {
		return fmt.Errorf("make the folder of %s: %w", file, err)
	}
	temporary, err := os.CreateTemp(filepath.Dir(target), ".export-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	defer os.Remove(temporary.Name())
	_, err = temporary.WriteString(text)
	if err := errors.Join(err, temporary.Chmod(0o644), temporary.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path.Base(file), err)
	}
	if err := os.Rename(temporary.Name(), target); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	return nil
}
