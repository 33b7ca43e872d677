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
	if err := checkDirectory(z.file, size); err != nil {
		return err
	}
	reader, err := zip.NewReader(z.file, size)
	// A path out of the archive harms nobody: no file is written.
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) {
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

// checkDirectory reads the size of the list of files from the end of the archive. Where there is none, the archive is
// corrupt, and the library says so.
func checkDirectory(file io.ReaderAt, size int64) error {
	const length, maxComment = 22, 1<<16 - 1
	end := make([]byte, min(size, length+maxComment))
	if _, err := file.ReadAt(end, size-int64(len(end))); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	at := bytes.LastIndex(end, []byte("PK\x05\x06"))
	if at < 0 || len(end)-at < length {
		return nil
	}
	directory := uint64(binary.LittleEndian.Uint32(end[at+12:]))
	const locator, longLength = 20, 56
	if isLong := at >= locator && bytes.HasPrefix(end[at-locator:], []byte("PK\x06\x07")); isLong && directory == 1<<32-1 {
		long := make([]byte, longLength)
		if _, err := file.ReadAt(long, int64(binary.LittleEndian.Uint64(end[at-locator+8:]))); err != nil {
			return nil
		}
		directory = binary.LittleEndian.Uint64(long[40:])
	}
	if directory > maxDirectory {
		return ErrDirectory
	}
	return nil
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
