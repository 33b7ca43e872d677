package parquet

import (
	"bufio"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

const (
	// readBuffer is for each column.
	readBuffer = 16 << 10
	// maxFooter is the size of a file's description of itself.
	maxFooter = 16 << 20
	// MaxPages is the memory for the pages that are read side by side: of each column one, and its dictionary.
	MaxPages = 256 << 20
	// valueCost is about the memory that a value of a page takes beside its bytes: levels, the place in a dictionary.
	valueCost = 8
)

// checkFooter refuses a file that is no Parquet file, or too short, before the library believes the size of its footer.
func checkFooter(file io.ReaderAt, size int64) error {
	var start [4]byte
	var end [8]byte
	if size < int64(len(start)+len(end)) {
		return fmt.Errorf("%w: it is too short", ErrFile)
	}
	if _, err := file.ReadAt(start[:], 0); err != nil {
		return err
	}
	if _, err := file.ReadAt(end[:], size-int64(len(end))); err != nil {
		return err
	}
	length := int64(binary.LittleEndian.Uint32(end[:4]))
	switch {
	case string(start[:]) == "PARE" || string(end[4:]) == "PARE":
		return fmt.Errorf("%w: it is encrypted", ErrFile)
	case string(start[:]) != "PAR1":
		return fmt.Errorf("%w: it does not begin with PAR1", ErrFile)
	case string(end[4:]) != "PAR1" || length > size-12:
		return fmt.Errorf("%w: it is not complete: its end is missing", ErrFile)
	case length > maxFooter:
		return fmt.Errorf("%w: its description has %d MB, more than %d", ErrFile, length>>20, maxFooter>>20)
	}
	return nil
}

// checkPages reads the headers of all pages, and refuses a file of which one row needs too much memory. The library
// makes room for what a header says before it looks at the page.
func checkPages(file io.ReaderAt, opened *parquet.File) error {
	for i := range opened.Metadata().RowGroups {
		group := &opened.Metadata().RowGroups[i]
		if group.NumRows < 0 {
			return fmt.Errorf("%w: it is damaged: %d rows", ErrFile, group.NumRows)
		}
		var total int64
		for j := range group.Columns {
			cost, err := pagesCost(file, opened.Size(), &group.Columns[j].MetaData)
			if err != nil {
				return fmt.Errorf("%w: column %d: %w", ErrFile, j+1, err)
			}
			total += cost
		}
		if total > MaxPages {
			return fmt.Errorf("%w: its pages are too large: they need %d MB of memory, more than %d; write it with smaller pages "+
				"and row groups", ErrFile, total>>20, MaxPages>>20)
		}
	}
	return nil
}

// pagesCost is about the memory for the largest page of a column and for its dictionary.
func pagesCost(file io.ReaderAt, size int64, chunk *format.ColumnMetaData) (int64, error) {
	start := chunk.DataPageOffset
	if dictionary := chunk.DictionaryPageOffset; dictionary != 0 {
		start = dictionary
	}
	end := start + chunk.TotalCompressedSize
	if start < 0 || end < start || end > size {
		return 0, errors.New("its place is not in the file")
	}
	var largest, dictionary int64
	var protocol thrift.CompactProtocol
	buffered := bufio.NewReaderSize(nil, 256)
	for start < end {
		if err := checkThrift(io.NewSectionReader(file, start, end-start), maxFooter); err != nil {
			return 0, fmt.Errorf("the header of a page: %w", err)
		}
		section := &countingReader{reader: io.NewSectionReader(file, start, end-start)}
		buffered.Reset(section)
		header := new(format.PageHeader)
		if err := thrift.NewDecoder(protocol.NewReader(buffered)).Decode(header); err != nil {
			return 0, fmt.Errorf("the header of a page: %w", err)
		}
		length := section.bytes - int64(buffered.Buffered())
		packed, unpacked := int64(header.CompressedPageSize), int64(header.UncompressedPageSize)
		values := max(int64(header.DataPageHeader.V.NumValues), int64(header.DataPageHeaderV2.V.NumValues),
			int64(header.DictionaryPageHeader.V.NumValues))
		if packed < 0 || unpacked < 0 || values < 0 || packed > end-start-length {
			return 0, errors.New("a page with an impossible size")
		}
		cost := packed + unpacked + valueCost*values
		if cost > MaxPages {
			return cost, nil
		}
		page := io.NewSectionReader(file, start+length, packed)
		if err := checkPacked(page, chunk.Codec, header); err != nil {
			return 0, err
		}
		if header.Type == format.DictionaryPage {
			dictionary = max(dictionary, cost)
		} else {
			largest = max(largest, cost)
		}
		start += length + packed
	}
	return largest + dictionary, nil
}

// checkPacked refuses a page that unpacks to another size than its header says. The library makes room for whatever comes.
func checkPacked(page io.Reader, codec format.CompressionCodec, header *format.PageHeader) error {
	size := int64(header.UncompressedPageSize)
	if v2 := header.DataPageHeaderV2; v2.Valid {
		// The levels are not packed.
		levels := int64(v2.V.RepetitionLevelsByteLength) + int64(v2.V.DefinitionLevelsByteLength)
		if levels < 0 || levels > size {
			return errors.New("a page with an impossible size")
		}
		if _, err := io.CopyN(io.Discard, page, levels); err != nil {
			return err
		}
		size -= levels
		if isPacked := v2.V.IsCompressed; isPacked.Valid && !isPacked.V {
			codec = format.Uncompressed
		}
	}
	var unpacked io.Reader
	var err error
	switch codec {
	case format.Uncompressed:
		return nil
	case format.Snappy:
		length, err := binary.ReadUvarint(bufio.NewReaderSize(page, 16))
		if err != nil || int64(length) != size {
			return errors.New("a page that unpacks to another size than it says")
		}
		return nil
	case format.Gzip:
		unpacked, err = gzip.NewReader(page)
	case format.Brotli:
		unpacked = brotli.NewReader(page)
	case format.Zstd:
		var decoder *zstd.Decoder
		if decoder, err = zstd.NewReader(page, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(MaxPages)); err == nil {
			defer decoder.Close()
			unpacked = decoder
		}
	default:
		return fmt.Errorf("it is compressed by %s, which is not read", codec)
	}
	if err != nil {
		return fmt.Errorf("unpack a page: %w", err)
	}
	length, err := io.Copy(io.Discard, io.LimitReader(unpacked, size+1))
	if err != nil {
		return fmt.Errorf("unpack a page: %w", err)
	}
	if length != size {
		return errors.New("a page that unpacks to another size than it says")
	}
	return nil
}

type countingReader struct {
	reader io.Reader
	bytes  int64
}

func (r *countingReader) Read(p []byte) (int, error) {
	n, err := r.reader.Read(p)
	r.bytes += int64(n)
	return n, err
}
