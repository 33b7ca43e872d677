// Package spool keeps a file that must be read at random in a temporary file without a name.
package spool

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// File copies what from has into a temporary file of TMPDIR. The file has no name any more when this returns, so
// nothing is left of it once it is closed, or the program has ended. Whoever bounds from bounds the file.
func File(from io.Reader) (file *os.File, size int64, err error) {
	file, err = os.CreateTemp("", "tinydevcrm-*")
	if err != nil {
		return nil, 0, fmt.Errorf("create a temporary file: %w", err)
	}
	if err = os.Remove(file.Name()); err == nil {
		size, err = io.Copy(file, from)
	}
	if err != nil {
		return nil, 0, errors.Join(err, file.Close())
	}
	return file, size, nil
}
