package archive

import (
	"archive/zip"
	"bytes"
	"compress/bzip2"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/spool"
)

// maxDirectory is the size in bytes of the list of files in a zip, which is kept in memory: about 100,000 files.
const maxDirectory = 8 << 20

// ErrDirectory is the error for a zip of too many files.
var ErrDirectory = fmt.Errorf("the list of its files is longer than %d MB", maxDirectory>>20)

// A Zip is the files of a zip archive.
type Zip struct {
	file    *os.File
	members []*zip.File
}

// A Member is a file in a zip. Its name is valid UTF-8, whatever the archive says.
type Member struct {
	Name string
	// Size is that of the text, as the archive says.
	Size uint64
}

// OpenZip spools a zip archive, because the list of its files is at its end. The errors of text come through as they are.
func OpenZip(text io.Reader) (*Zip, error) {
	file, size, err := spool.File(text)
	if err != nil {
		return nil, err
	}
	z := &Zip{file: file}
	if err := z.read(size); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return z, nil
}

const checkZip = "unzip -t"

func (z *Zip) read(size int64) error {
	reader, err := NewReader(z.file, size)
	// A path out of the archive harms nobody: no file is written.
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) {
		if errors.Is(err, ErrDirectory) {
			return err
		}
		return &CorruptError{checkZip, err}
	}
	const byBzip2, byZstd = 12, 93
	reader.RegisterDecompressor(byBzip2, func(r io.Reader) io.ReadCloser { return io.NopCloser(bzip2.NewReader(r)) })
	reader.RegisterDecompressor(byZstd, zstd.ZipDecompressor(zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow)))
	for _, member := range reader.File {
		if !isHidden(member.Name) {
			z.members = append(z.members, member)
		}
	}
	return nil
}

// isHidden reports whether a name is that of a folder, or of a file that systems add.
func isHidden(name string) bool {
	return strings.HasSuffix(name, "/") || strings.HasPrefix(name, "__MACOSX/") || strings.HasPrefix(path.Base(name), ".")
}

// NewReader is zip.NewReader within bounds: what an archive says of its list is not believed.
func NewReader(file io.ReaderAt, size int64) (*zip.Reader, error) {
	if err := checkCount(file, size); err != nil {
		return nil, err
	}
	bounded := &boundedReader{file: file, left: maxDirectory + maxEnd}
	reader, err := zip.NewReader(bounded, size)
	bounded.isOpen = true
	return reader, err
}

// A boundedReader ends the reading of a list that is too long. The files are read without a bound once it is open.
type boundedReader struct {
	file   io.ReaderAt
	left   int64
	isOpen bool
}

func (r *boundedReader) ReadAt(p []byte, at int64) (int, error) {
	if r.isOpen {
		return r.file.ReadAt(p, at)
	}
	n, err := r.file.ReadAt(p, at)
	if r.left -= int64(n); r.left < 0 {
		return 0, ErrDirectory
	}
	return n, err
}

const (
	endLength, maxComment = 22, 1<<16 - 1
	// maxEnd is what is read of the end of an archive to find its list.
	maxEnd = 256 << 10
	// minEntry is the length of the shortest entry of the list.
	minEntry = 46
)

// checkCount reads how many files an archive of the long format says that it has, because the library makes room for them.
func checkCount(file io.ReaderAt, size int64) error {
	const locator, longLength, count = 20, 56, 32
	end := make([]byte, min(size, locator+endLength+maxComment))
	if _, err := file.ReadAt(end, size-int64(len(end))); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	for rest := end; ; {
		at := bytes.LastIndex(rest, []byte("PK\x06\x07"))
		if at < 0 {
			return nil
		}
		rest = rest[:at]
		if len(end)-at < locator {
			continue
		}
		long := make([]byte, longLength)
		if _, err := file.ReadAt(long, int64(binary.LittleEndian.Uint64(end[at+8:]))); err != nil {
			continue
		}
		if binary.LittleEndian.Uint64(long[count:]) > maxDirectory/minEntry {
			return ErrDirectory
		}
	}
}

// Members are the files, without folders and what systems add.
func (z *Zip) Members() []Member {
	members := make([]Member, len(z.members))
	for i, member := range z.members {
		members[i] = Member{strings.ToValidUTF8(member.Name, "\ufffd"), member.UncompressedSize64}
	}
	return members
}

// Open returns the text of the file at that place in Members.
func (z *Zip) Open(at int) (io.ReadCloser, error) {
	const isEncrypted = 1
	if z.members[at].Flags&isEncrypted != 0 {
		return nil, &CorruptError{checkZip, errors.New("it is encrypted")}
	}
	text, err := z.members[at].Open()
	if err != nil {
		return nil, &CorruptError{checkZip, err}
	}
	return &memberReader{text}, nil
}

// Close removes the archive.
func (z *Zip) Close() error { return z.file.Close() }

// A memberReader reports errors of the archive as such.
type memberReader struct{ io.ReadCloser }

func (r *memberReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = &CorruptError{checkZip, err}
	}
	return n, err
}
