package parquet_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"testing"

	lib "github.com/parquet-go/parquet-go"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/parquet"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/records"
)

// withFooter is a file of only a description.
func withFooter(footer []byte) []byte {
	file := append([]byte("PAR1"), footer...)
	return append(binary.LittleEndian.AppendUint32(file, uint32(len(footer))), "PAR1"...)
}

// longColumn is a file with a column of so many bytes.
func longColumn(t *testing.T, size int) []byte {
	t.Helper()
	var file bytes.Buffer
	if err := lib.Write(&file, make([]struct {
		A int64 `parquet:",plain"`
	}, size/8), lib.Compression(&lib.Uncompressed)); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

// What ends the program cannot be recovered from, so each lie is tried by a process of its own.
func TestADescriptionThatLiesIsRefused(t *testing.T) {
	lies := map[string][]byte{
		// i32 version, list of 2^31-1 structs.
		"a list of which only the number is there": {0x15, 2, 0x19, 0xfc, 0xff, 0xff, 0xff, 0xff, 7},
		"structs in structs":                       bytes.Repeat([]byte{0x1c}, 16<<20),
		"an unknown field of structs in structs":   append([]byte{0x15, 2, 0xdc}, bytes.Repeat([]byte{0x1c}, 15<<20)...),
		"lists in lists":                           append([]byte{0x15, 2, 0xd9}, bytes.Repeat([]byte{0x19}, 15<<20)...),
	}
	// Each has one below it, so that the names of all above a column are those of all.
	var steep []byte
	for range 300_000 {
		steep = append(steep, 0x48, 1, 'a', 0x15, 2, 0)
	}
	lies["a schema that is one steep column"] = append([]byte{0x15, 2, 0x19, 0xfc, 0xe0, 0xa7, 0x12}, append(steep, 0x16, 2, 0x19, 0x0c, 0)...)
	// As many columns as groups of rows, which have none of them.
	flat := append([]byte{0x15, 2, 0x19, 0xfc, 0xc1, 0xb8, 2, 0x48, 1, 'a', 0x15, 0x80, 0xf1, 4, 0}, bytes.Repeat([]byte{0x15, 2, 0x38, 1, 'a', 0}, 40_000)...)
	flat = append(append(flat, 0x16, 2, 0x19, 0xfc, 0xc0, 0xb8, 2), bytes.Repeat([]byte{0x19, 0x0c, 0x16, 0, 0x16, 2, 0}, 40_000)...)
	lies["columns times groups of rows"] = append(flat, 0)
	const inAPage = "structs in structs at a page"
	lies[inAPage] = nil
	const inner = "TINYDEVCRM_TEST_OF_A_LIE"
	if lie := os.Getenv(inner); lie != "" {
		debug.SetMemoryLimit(512 << 20)
		file := withFooter(lies[lie])
		if lie == inAPage {
			file = longColumn(t, 30<<20)
			copy(file[4:], bytes.Repeat([]byte{0x1c}, 30<<20))
		}
		if _, err := parquet.Open(bytes.NewReader(file), int64(len(file)), nil); !errors.Is(err, parquet.ErrFile) {
			t.Errorf("the error is %v", err)
		}
		return
	}
	for lie := range lies {
		t.Run(lie, func(t *testing.T) {
			t.Parallel()
			process := exec.CommandContext(t.Context(), "sh", "-c", `ulimit -v 4000000; exec "$0" -test.run '^TestADescriptionThatLiesIsRefused$'`, os.Args[0])
			process.Env = append(os.Environ(), inner+"="+lie)
			if output, err := process.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, output[:min(len(output), 300)])
			}
		})
	}
}

// A row is in memory as a whole, so it has a bound, as a line of a CSV has.
func TestARowOfALongListIsRefused(t *testing.T) {
	t.Parallel()
	var file bytes.Buffer
	list := make([]string, 140)
	for i := range list {
		list[i] = strings.Repeat("a", 1<<20)
	}
	if err := lib.Write(&file, []struct {
		List []string `parquet:"list,list"`
	}{{list}}, lib.Compression(&lib.Zstd)); err != nil {
		t.Fatal(err)
	}
	reader, err := parquet.Open(bytes.NewReader(file.Bytes()), int64(file.Len()), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if _, err := reader.Next(); !errors.Is(err, records.ErrLong) {
		t.Errorf("the error is %.200v", err)
	}
}
