// Package archive unpacks compressed files, and the files in a zip.
package archive

import (
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// maxWindow is how far back a file of zstd may refer: what zstd --long takes, and its command unpacks by itself.
const maxWindow = 128 << 20

// A CorruptError is the error for a file that cannot be unpacked.
type CorruptError struct {
	// Check is a command that checks such a file.
	Check string
	err   error
}

func (e *CorruptError) Error() string { return fmt.Sprintf("cannot be unpacked: %v", e.err) }

// Unpack returns the text of a file that gzip, zstd or bzip2 has compressed, as its beginning shows, and any other file
// as it is. The errors of file come through as they are.
func Unpack(file io.Reader) (text io.ReadCloser, isPacked bool, err error) {
	var start [10]byte
	n, err := io.ReadFull(file, start[:])
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, false, err
	}
	source := &sourceReader{reader: io.MultiReader(bytes.NewReader(start[:n]), file)}
	unpacked := &unpacker{source: source}
	switch {
	case bytes.HasPrefix(start[:n], []byte{0x1f, 0x8b}):
		unpacked.check = "gzip -t"
		unpacked.text, err = gzip.NewReader(source)
	case isZstd(start[:n]):
		unpacked.check = "zstd -t"
		var decoder *zstd.Decoder
		decoder, err = zstd.NewReader(source, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err == nil {
			unpacked.text, unpacked.close = decoder, decoder.Close
		}
	case isBzip2(start[:n]):
		unpacked.check = "bzip2 -t"
		unpacked.text = bzip2.NewReader(source)
	default:
		return io.NopCloser(source.reader), false, nil
	}
	if err != nil {
		return nil, true, unpacked.explain(err)
	}
	return unpacked, true, nil
}

// isZstd reports whether a file begins with a frame of zstd, which may be one to skip.
func isZstd(start []byte) bool {
	return bytes.HasPrefix(start, []byte{0x28, 0xb5, 0x2f, 0xfd}) ||
		len(start) > 4 && start[0]&0xf0 == 0x50 && bytes.HasPrefix(start[1:], []byte{0x2a, 0x4d, 0x18})
}

// isBzip2 reports whether a file begins like one of bzip2, with a block or with the end.
func isBzip2(start []byte) bool {
	return len(start) == 10 && string(start[:3]) == "BZh" && start[3] >= '1' && start[3] <= '9' &&
		(string(start[4:]) == "1AY&SY" || string(start[4:]) == "\x17\x72\x45\x38\x50\x90")
}

// An unpacker tells errors of the compressed text from those of its source.
type unpacker struct {
	text   io.Reader
	source *sourceReader
	check  string
	close  func()
}

func (u *unpacker) Read(p []byte) (int, error) {
	n, err := u.text.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = u.explain(err)
	}
	return n, err
}

func (u *unpacker) explain(err error) error {
	if u.source.err != nil {
		return u.source.err
	}
	return &CorruptError{u.check, err}
}

func (u *unpacker) Close() error {
	if u.close != nil {
		u.close()
	}
	return nil
}

// A sourceReader keeps the error of a reader, which others may replace by theirs.
type sourceReader struct {
	reader io.Reader
	err    error
}

func (r *sourceReader) Read(p []byte) (int, error) {
	n, err := r.reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return n, err
}
