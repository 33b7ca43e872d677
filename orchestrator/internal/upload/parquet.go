package upload

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/parquet"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/records"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/spool"
)

func isParquet(sample []byte, _ string) bool {
	return bytes.HasPrefix(sample, []byte("PAR1")) || bytes.HasPrefix(sample, []byte("PARE"))
}

// A parquetFile is a Parquet file in a temporary one, because its description is at its end.
type parquetFile struct {
	*parquet.Reader
	file *os.File
	// texts counts the values that were read: a small file may have many.
	texts countingReader
}

func openParquet(text io.Reader, request Request) (namedReader, error) {
	file, size, err := spool.File(text)
	if err != nil {
		return nil, err
	}
	var texts []string
	for name, typeName := range request.Types {
		if strings.EqualFold(typeName, "text") {
			texts = append(texts, name)
		}
	}
	reader, err := parquet.Open(file, size, texts)
	if err != nil {
		return nil, errors.Join(explainParquet(err), file.Close())
	}
	return &parquetFile{reader, file, countingReader{limit: request.MaxBytes}}, nil
}

func (p *parquetFile) Next() (*records.Record, error) {
	record, err := p.Reader.Next()
	if err != nil {
		return nil, explainParquet(err)
	}
	p.texts.bytes += int64(len(record.Fields))
	for _, field := range record.Fields {
		p.texts.bytes += int64(len(field.Text))
	}
	return record, p.texts.check()
}

func (p *parquetFile) Close() error { return errors.Join(p.Reader.Close(), p.file.Close()) }

func explainParquet(err error) error {
	if !errors.Is(err, parquet.ErrFile) {
		return err
	}
	return &db.UserError{
		Status:  http.StatusUnprocessableEntity,
		Code:    "TD005",
		Message: err.Error(),
		Hint:    "Is the file complete? Otherwise write it again, compressed by snappy or zstd.",
	}
}
