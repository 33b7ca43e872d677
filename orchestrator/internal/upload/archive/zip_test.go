package archive_test

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/archive"
)

// directory is the list of so many files, and the end of an archive, which says that the list has one byte.
func directory(t *testing.T, count int) []byte {
	t.Helper()
	var file bytes.Buffer
	w := zip.NewWriter(&file)
	for i := range count {
		if _, err := w.CreateRaw(&zip.FileHeader{Name: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

func TestTheListOfAZipIsBounded(t *testing.T) {
	t.Parallel()
	honest := directory(t, 200_000)
	// The library reads the list to its end, whatever length the archive says.
	lying := bytes.Clone(honest)
	end := bytes.LastIndex(lying, []byte("PK\x05\x06"))
	start := bytes.Index(lying, []byte("PK\x01\x02"))
	lying = append(lying[start:end], lying[end:]...)
	end -= start
	if long := bytes.LastIndex(lying, []byte("PK\x06\x06")); long >= 0 {
		lying = append(lying[:long], lying[end:]...)
		end = long
	}
	binary.LittleEndian.PutUint16(lying[end+8:], 200_000%65536)
	binary.LittleEndian.PutUint16(lying[end+10:], 200_000%65536)
	binary.LittleEndian.PutUint32(lying[end+12:], 1)
	binary.LittleEndian.PutUint32(lying[end+16:], 0)
	if reader, err := zip.NewReader(bytes.NewReader(lying), int64(len(lying))); err != nil || len(reader.File) != 200_000 {
		t.Fatalf("the library does not read it: %v", err)
	}
	// The number of files, for which the library makes room, is in a record of its own.
	many := append([]byte("PK\x06\x06"), make([]byte, 52)...)
	binary.LittleEndian.PutUint64(many[32:], 1<<40)
	many = append(many, "PK\x06\x07"+strings.Repeat("\x00", 16)+"PK\x05\x06"+strings.Repeat("\xff", 16)+"\x00\x00"...)
	for name, file := range map[string][]byte{"a long list": honest, "a list that says it is short": lying, "files that are not there": many} {
		if _, err := archive.NewReader(bytes.NewReader(file), int64(len(file))); !errors.Is(err, archive.ErrDirectory) {
			t.Errorf("%s: %v", name, err)
		}
	}
	few := directory(t, 70_000)
	if reader, err := archive.NewReader(bytes.NewReader(few), int64(len(few))); err != nil || len(reader.File) != 70_000 {
		t.Errorf("70,000 files: %v", err)
	}
}
