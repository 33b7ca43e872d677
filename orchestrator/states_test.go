package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The states are defined in the migrations, which states_test.sql sees to. The program only shows them.
func TestStatesAreDefinedInSQL(t *testing.T) {
	defines := regexp.MustCompile(`(?i)\b(then|else)\s+'(failing|late|reads[ _]renamed[ _]table|switched[ _]off|view[ _]dropped|in[ _]flight|not[ _]populated|not[ _]scheduled|unscheduled)'`)
	if !defines.MatchString("case when last_error is not null then 'failing' end") {
		t.Fatal("a definition is not found")
	}
	read := 0
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || strings.HasSuffix(path, "_test.go") ||
			!strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, ".sql") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		read++
		if found := defines.Find(text); found != nil {
			t.Errorf("%s defines a state: %s", path, found)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if read < 50 {
		t.Errorf("%d files have been read", read)
	}
}
