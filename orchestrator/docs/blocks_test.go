// Package docs_test runs the blocks of the documents, of this folder and of all others.
package docs_test

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

func TestMain(m *testing.M) {
	code := dbtest.Main(m)
	if built.folder != "" {
		os.RemoveAll(built.folder)
	}
	os.Exit(code)
}

// root is the folder of the repository, as seen from here.
const root = "../.."

// A block is a fenced block of a document.
type block struct {
	file string
	// first and last are the lines of its fences, from 1.
	first, last int
	// language and info are the first word and the rest of its opening fence.
	language, info string
	text           string
	// mark is the comment right before it, or else the one right below the heading of its section; empty for none.
	mark string
}

func (b block) String() string { return fmt.Sprintf("%s:%d", b.file, b.first) }

// The marks of a block, or of all blocks of a section, are HTML comments. A step is not of a block: it is SQL that a test
// runs there, mostly to let time pass; "stop" ends the program.
var (
	notRun = regexp.MustCompile(`^<!-- not run: \S.+ -->$`)
	runBy  = regexp.MustCompile(`^<!-- run by (\S+): (\w+) -->$`)
	step   = regexp.MustCompile(`^<!-- in the test: (.+) -->$`)
)

var (
	fence    = regexp.MustCompile("^ *```(\\S*) ?(.*)$")
	listItem = regexp.MustCompile(`^ *(?:[-*]|\d+\.) `)
)

// readBlocks reads the blocks of a document and, as blocks of the language step, its steps.
func readBlocks(t *testing.T, file string) []block {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	var blocks []block
	var open *block
	last, ofSection, isAfterBlank, isInList := "", "", true, false
	for number, line := range strings.Split(string(content), "\n") {
		found := fence.FindStringSubmatch(line)
		trimmed := strings.TrimSpace(line)
		switch {
		case open != nil && found != nil:
			open.last = number + 1
			blocks = append(blocks, *open)
			open, last = nil, ""
		case open != nil:
			open.text += line + "\n"
		case found != nil:
			open = &block{file: file, first: number + 1, language: found[1], info: found[2], mark: ofSection}
			if notRun.MatchString(last) || runBy.MatchString(last) {
				open.mark = last
			}
		case step.MatchString(trimmed):
			blocks = append(blocks, block{file: file, first: number + 1, language: "step", text: step.FindStringSubmatch(trimmed)[1]})
		case trimmed == "":
		case isAfterBlank && !isInList && strings.HasPrefix(line, "    "):
			t.Errorf("%s:%d: a block without fences, which no test finds", file, number+1)
		default:
			if strings.HasPrefix(line, "#") {
				ofSection = ""
			}
			if strings.HasPrefix(last, "#") && (notRun.MatchString(trimmed) || runBy.MatchString(trimmed)) {
				ofSection = trimmed
			}
			last = trimmed
			isInList = listItem.MatchString(line) || isInList && strings.HasPrefix(line, " ")
		}
		isAfterBlank = trimmed == ""
	}
	if open != nil {
		t.Errorf("%s: the block does not end", open)
	}
	return blocks
}

// listDocuments lists all documents of the repository.
func listDocuments(t *testing.T) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		name := entry.Name()
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != root && strings.HasPrefix(name, ".") && name != ".github":
			return fs.SkipDir
		case !entry.IsDir() && strings.HasSuffix(name, ".md"):
			relative, err := filepath.Rel(root, path)
			found = append(found, relative)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// isRunHere reports whether a test of this package runs the block, or compares something with it.
func isRunHere(b block) bool {
	return b.mark == "" && b.language != ""
}

// TestEachBlockIsRun wants every block of every document to be run by a test, or to say why it is not.
func TestEachBlockIsRun(t *testing.T) {
	dbtest.SameOnEveryServer(t)
	documents := listDocuments(t)
	for _, must := range []string{"README.md", "migrations/README.md", "orchestrator/docs/TUTORIAL.md", ".github/SECURITY.md"} {
		if !slices.Contains(documents, must) {
			t.Fatalf("%s is not among the documents %v", must, documents)
		}
	}
	known := append(slices.Clone(languages), "step")
	for name := range verifiers {
		known = append(known, name)
	}
	ran, marked := 0, 0
	for _, file := range documents {
		for _, b := range readBlocks(t, file) {
			by := runBy.FindStringSubmatch(b.mark)
			switch {
			case b.language == "step":
			case notRun.MatchString(b.mark):
				marked++
			case by != nil:
				code, err := os.ReadFile(filepath.Join(root, by[1]))
				if err != nil || !regexp.MustCompile(`\b`+by[2]+`\b`).Match(code) {
					t.Errorf("%s: %s has no %s", b, by[1], by[2])
				}
				ran++
			case b.language == "":
				t.Errorf("%s: neither a language by which a test runs it, nor a mark that says why none does", b)
			case !slices.Contains(known, b.language):
				t.Errorf("%s: no test runs the language %s", b, b.language)
			case !slices.Contains(sessions, file) && file != signatures:
				t.Errorf("%s: no test runs the blocks of this document", b)
			default:
				ran++
			}
		}
	}
	t.Logf("%d documents, %d blocks are run, %d say why not", len(documents), ran, marked)
}

// TestLinks wants what documents link to within the repository to be there, headings included.
func TestLinks(t *testing.T) {
	dbtest.SameOnEveryServer(t)
	link := regexp.MustCompile(`\]\(([^)\s]+)\)|(?m:^\[[^\]]+\]: (\S+)$)`)
	anchors := map[string]map[string]bool{}
	checked := 0
	for _, file := range listDocuments(t) {
		content, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range link.FindAllStringSubmatch(string(content), -1) {
			target, anchor, hasAnchor := strings.Cut(found[1]+found[2], "#")
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			path := file
			if target != "" {
				path = filepath.Join(filepath.Dir(file), target)
			}
			info, err := os.Stat(filepath.Join(root, path))
			if err != nil {
				t.Errorf("%s links to %s, which is not there", file, target)
				continue
			}
			checked++
			if !hasAnchor || info.IsDir() {
				continue
			}
			if anchors[path] == nil {
				anchors[path] = readAnchors(t, path)
			}
			if !anchors[path][anchor] {
				t.Errorf("%s links to the heading #%s of %s, which is not there", file, anchor, path)
			}
		}
	}
	if checked < 50 {
		t.Errorf("only %d links were checked", checked)
	}
}

// readAnchors lists the headings of a document, as GitHub makes anchors of them.
func readAnchors(t *testing.T, file string) map[string]bool {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	anchors := map[string]bool{}
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(string(content), -1) {
		text := regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`).ReplaceAllString(heading[1], "$1")
		text = regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(text), "")
		anchors[strings.ReplaceAll(text, " ", "-")] = true
	}
	return anchors
}

// TestShellIsSound parses also the blocks of shell that cannot be run.
func TestShellIsSound(t *testing.T) {
	dbtest.SameOnEveryServer(t)
	for _, file := range listDocuments(t) {
		for _, b := range readBlocks(t, file) {
			if b.language != "sh" {
				continue
			}
			check := exec.Command("bash", "-n")
			check.Stdin = strings.NewReader(b.text)
			if output, err := check.CombinedOutput(); err != nil {
				t.Errorf("%s: %s", b, output)
			}
		}
	}
}
