package upload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"slices"
	"strings"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/archive"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/words"
)

// anyRatio is how many bytes files may always unpack to, whatever their own size.
const anyRatio = 16 << 20

// unpack returns the text of a file, which may be compressed.
func (l *loader) unpack(file io.Reader, name string) (io.Reader, error) {
	text, isPacked, err := archive.Unpack(file)
	if err != nil {
		return nil, explainPack(name, err)
	}
	l.closers = append(l.closers, text)
	if !isPacked {
		return text, nil
	}
	return &unpackedReader{text, l, name}, nil
}

// An unpackedReader stops when the files of an import unpack to too much.
type unpackedReader struct {
	io.Reader
	loader *loader
	name   string
}

func (r *unpackedReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	l := r.loader
	l.unpacked += int64(n)
	if ratio := l.request.MaxRatio; ratio > 0 && l.unpacked > anyRatio && l.unpacked/ratio > l.file.bytes {
		return 0, &db.UserError{
			Status:  http.StatusRequestEntityTooLarge,
			Code:    "TD005",
			Message: fmt.Sprintf("%s unpacks to more than %d times its size", r.name, ratio),
			Hint:    "Send it unpacked, or import it with orchestrator upload. The limit of the page is up --max-unpack-ratio.",
		}
	}
	return n, explainPack(r.name, err)
}

// explainPack says that a file cannot be unpacked.
func explainPack(name string, err error) error {
	var corrupt *archive.CorruptError
	switch {
	case errors.As(err, &corrupt):
		return &db.UserError{
			Status:  http.StatusUnprocessableEntity,
			Code:    "TD005",
			Message: name + " " + corrupt.Error(),
			Hint:    fmt.Sprintf("Is the file complete? Check it with %s.", corrupt.Check),
		}
	case errors.Is(err, archive.ErrDirectory):
		return &db.UserError{
			Status:  http.StatusUnprocessableEntity,
			Code:    "TD005",
			Message: name + " cannot be unpacked: " + err.Error(),
			Hint:    "Unpack it, and import the files that you need.",
		}
	}
	return err
}

// openZip opens the first of the files in a zip that the request chooses. openNext goes on with the others. Their text
// counts from before on, not the zip itself.
func (l *loader) openZip(ctx context.Context, text io.Reader, name string, before int64) (Dialect, error) {
	if l.zip != nil {
		return Dialect{}, strange("a zip within a zip", "Unpack the outer one, and import the zip in it.")
	}
	opened, err := archive.OpenZip(text)
	if err != nil {
		return Dialect{}, explainPack(name, err)
	}
	l.text.bytes = before
	l.zip = &zipSeries{Zip: opened, name: name}
	if l.zip.chosen, err = chooseMembers(name, opened.Members(), l.request.Members); err != nil {
		return Dialect{}, err
	}
	l.zip.isWhole = l.request.Members == nil
	if len(l.zip.chosen) == 1 && !l.zip.isWhole {
		l.request.Source = name + "/" + opened.Members()[l.zip.chosen[0]].Name
	}
	dialect, err := l.openMember(ctx)
	dialect.Members = l.request.Members
	if err != nil && !l.zip.isWhole {
		err = inFile(l.source, err)
	}
	return dialect, err
}

// A zipSeries is the place of the loader among the files in a zip.
type zipSeries struct {
	*archive.Zip
	name string
	// isWhole means that the zip is for its only file, which needs no name.
	isWhole bool
	chosen  []int // that are not opened yet
}

// openMember opens the next of the chosen files in a zip.
func (l *loader) openMember(ctx context.Context) (Dialect, error) {
	z := l.zip
	next := z.chosen[0]
	z.chosen = z.chosen[1:]
	inside := z.Members()[next].Name
	if !z.isWhole {
		l.source = z.name + "/" + inside
	}
	text, err := z.Open(next)
	if err != nil {
		return Dialect{}, explainPack(l.source, err)
	}
	l.closers = append(l.closers, text)
	unpacked, err := l.unpack(&unpackedReader{text, l, l.source}, l.source)
	if err != nil {
		return Dialect{}, err
	}
	return l.openText(ctx, unpacked, inside)
}

// chooseMembers returns the places of the files in a zip that are wanted: by their names, or by patterns such as *.csv.
func chooseMembers(name string, members []archive.Member, wanted []string) ([]int, error) {
	if len(members) == 0 {
		return nil, strange("a zip without files", "Choose another.")
	}
	if wanted == nil && len(members) > 1 {
		return nil, &db.UserError{
			Status:  http.StatusUnprocessableEntity,
			Code:    "TD005",
			Message: fmt.Sprintf("%s has %s", name, words.Count(int64(len(members)), "file")),
			Detail:  listMembers(members),
			Choices: memberChoices(members),
			Hint:    "Choose one (--member NAME), several for one table (--member '*.csv'), or all (--member '*').",
		}
	}
	var chosen []int
	isUsed := make([]bool, len(wanted))
	for at, member := range members {
		isChosen := wanted == nil
		for i, pattern := range wanted {
			if isMember(member.Name, pattern) {
				isChosen, isUsed[i] = true, true
			}
		}
		if isChosen {
			chosen = append(chosen, at)
		}
	}
	if at := slices.Index(isUsed, false); at >= 0 {
		return nil, &db.UserError{
			Status:  http.StatusUnprocessableEntity,
			Code:    "TD007",
			Message: fmt.Sprintf("%s has no file %q", name, wanted[at]),
			Detail:  listMembers(members),
			Choices: memberChoices(members),
			Hint:    "Choose one of these (--member NAME), several (--member '*.csv'), or all (--member '*').",
		}
	}
	return chosen, nil
}

// isMember reports whether a file in a zip has that name, or fits that pattern, with its folder or without.
func isMember(name, pattern string) bool {
	if name == pattern || pattern == "*" {
		return true
	}
	fits, err := path.Match(pattern, name)
	fitsBase, _ := path.Match(pattern, path.Base(name))
	return err == nil && (fits || fitsBase)
}

// shownMembers is how many files of a zip an error lists.
const shownMembers = 50

func listMembers(members []archive.Member) string {
	var lines []string
	for _, member := range members[:min(len(members), shownMembers)] {
		lines = append(lines, fmt.Sprintf("%s (%d bytes)", printable([]byte(member.Name)), member.Size))
	}
	if more := len(members) - len(lines); more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(lines, "\n")
}

// isZip reports whether a file is a zip archive of files, not one of those that programs keep their documents in.
func isZip(sample []byte, _ string) bool {
	document, _ := documentIn(sample)
	return bytes.HasPrefix(sample, []byte("PK\x03\x04")) && document == "" || bytes.HasPrefix(sample, []byte("PK\x05\x06"))
}

// closeAll closes what was opened for the file before, the zip too when all of its files were read.
func (l *loader) closeAll() error {
	l.records, l.named, l.book = nil, nil, nil
	var all []error
	for _, opened := range l.closers {
		all = append(all, opened.Close())
	}
	l.closers = nil
	if l.zip != nil && len(l.zip.chosen) == 0 {
		all = append(all, l.zip.Close())
		l.zip = nil
	}
	return errors.Join(all...)
}
