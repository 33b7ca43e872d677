package jsonlines_test

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/jsonlines"
)

// spellings are lines whose one key is written in another way in each.
type spellings struct{ line, count int }

func (s *spellings) Read(p []byte) (int, error) {
	if s.line == s.count {
		return 0, io.EOF
	}
	s.line++
	var key strings.Builder
	for bit := range 100 {
		if s.line>>(bit%20)&1 == 1 {
			key.WriteString(`\u0061`)
		} else {
			key.WriteByte('a')
		}
	}
	return copy(p, fmt.Sprintf(`{"%s":1}`+"\n", key.String())), nil
}

func TestMemoryDoesNotGrowWithTheSpellingsOfAKey(t *testing.T) {
	heap := func() uint64 {
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	before := heap()
	reader := jsonlines.NewReader(&spellings{count: 300_000}, jsonlines.Options{IsByLine: true})
	for {
		record, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || record.Fault != "" || len(reader.Columns()) != 1 {
			t.Fatal(record, err)
		}
	}
	if grown := heap() - before; grown > 32<<20 {
		t.Errorf("it keeps %d MB", grown>>20)
	}
	runtime.KeepAlive(reader)
}

func TestKeysThatAreTooLongAreAFault(t *testing.T) {
	line := `{"%d` + strings.Repeat("a", 1<<20) + `":1}` + "\n"
	var text strings.Builder
	for i := range 10 {
		fmt.Fprintf(&text, line, i)
	}
	reader := jsonlines.NewReader(strings.NewReader(text.String()), jsonlines.Options{IsByLine: true})
	for i := range 10 {
		record, err := reader.Next()
		if err != nil || (record.Fault != "") != (i >= 7) {
			t.Fatalf("line %d: %s, %v", i+1, record.Fault, err)
		}
	}
}
