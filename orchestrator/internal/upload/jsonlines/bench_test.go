package jsonlines_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/jsonlines"
)

func BenchmarkNext(b *testing.B) {
	var text bytes.Buffer
	for i := range 20_000 {
		fmt.Fprintf(&text, `{"id":%d,"name":"Customer %d","amount":%d.%02d,"ordered_at":"2024-03-%02d 10:00:%02d","is_paid":%v,"city":"M\u00fcnchen","note":null,"code":"%05d"}`+"\n",
			i, i, i%1000, i%100, i%28+1, i%60, i%2 == 0, i)
	}
	b.SetBytes(int64(text.Len()))
	for b.Loop() {
		r := jsonlines.NewReader(bytes.NewReader(text.Bytes()), jsonlines.Options{IsByLine: true})
		for {
			record, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil || record.Fault != "" {
				b.Fatal(err, record.Fault)
			}
		}
	}
}
