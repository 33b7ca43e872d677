package parquet_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	lib "github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"
	"github.com/parquet-go/parquet-go/encoding"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/parquet"
)

// generatedFiles is how many files the property tests generate, and shortFiles in a short run.
const generatedFiles, shortFiles = 2000, 200

// A column of a generated file: how it is stored, the type that it must get, and its values with their texts.
type column struct {
	node     lib.Node
	typeName string
	value    func(*rand.Rand) (lib.Value, string)
	// encodings besides the plain one.
	encodings []encoding.Encoding
}

func decimalText(unscaled int64, scale int) string {
	sign := ""
	if unscaled < 0 {
		sign = "-"
	}
	digits := strings.TrimPrefix(strconv.FormatInt(unscaled, 10), "-")
	for len(digits) <= scale {
		digits = "0" + digits
	}
	return sign + digits[:len(digits)-scale] + "." + digits[len(digits)-scale:]
}

// columns are one of each type.
func columns() []column {
	numbers := []encoding.Encoding{&lib.DeltaBinaryPacked, &lib.RLEDictionary}
	texts := []encoding.Encoding{&lib.DeltaLengthByteArray, &lib.DeltaByteArray, &lib.RLEDictionary}
	moment := func(r *rand.Rand) time.Time {
		return time.Date(1+r.IntN(12000), 1, 1+r.IntN(365), r.IntN(24), r.IntN(60), r.IntN(60), r.IntN(1e6)*1000, time.UTC)
	}
	fraction := func(at time.Time, digits int) string {
		return strings.TrimRight(strings.TrimRight(at.Format("."+strings.Repeat("0", digits)), "0"), ".")
	}
	day := func(at time.Time) string { return fmt.Sprintf("%04d-%s", at.Year(), at.Format("01-02")) }
	return []column{
		{lib.Leaf(lib.BooleanType), "boolean", func(r *rand.Rand) (lib.Value, string) {
			value := r.IntN(2) == 0
			return lib.BooleanValue(value), strconv.FormatBool(value)
		}, nil},
		{lib.Int(16), "integer", func(r *rand.Rand) (lib.Value, string) {
			value := int16(r.Uint32())
			return lib.Int32Value(int32(value)), strconv.Itoa(int(value))
		}, numbers},
		{lib.Leaf(lib.Int64Type), "bigint", func(r *rand.Rand) (lib.Value, string) {
			value := int64(r.Uint64())
			return lib.Int64Value(value), strconv.FormatInt(value, 10)
		}, numbers},
		{lib.Uint(32), "bigint", func(r *rand.Rand) (lib.Value, string) {
			value := r.Uint32()
			return lib.Int32Value(int32(value)), strconv.FormatUint(uint64(value), 10)
		}, numbers},
		{lib.Uint(64), "numeric", func(r *rand.Rand) (lib.Value, string) {
			value := r.Uint64()
			return lib.Int64Value(int64(value)), strconv.FormatUint(value, 10)
		}, numbers},
		{lib.Leaf(lib.FloatType), "real", func(r *rand.Rand) (lib.Value, string) {
			value := float32(r.NormFloat64() * math.Pow(10, float64(r.IntN(20)-10)))
			return lib.FloatValue(value), strconv.FormatFloat(float64(value), 'g', -1, 32)
		}, nil},
		{lib.Leaf(lib.DoubleType), "double precision", func(r *rand.Rand) (lib.Value, string) {
			special := []float64{math.NaN(), math.Inf(1), math.Inf(-1), 0, math.MaxFloat64}
			texts := []string{"NaN", "Infinity", "-Infinity", "0", "1.7976931348623157e+308"}
			if i := r.IntN(50); i < len(special) {
				return lib.DoubleValue(special[i]), texts[i]
			}
			value := r.NormFloat64() * math.Pow(10, float64(r.IntN(40)-20))
			return lib.DoubleValue(value), strconv.FormatFloat(value, 'g', -1, 64)
		}, nil},
		{lib.Decimal(2, 9, lib.Int32Type), "numeric(9,2)", func(r *rand.Rand) (lib.Value, string) {
			value := int32(r.IntN(2e9-1) - 1e9 + 1)
			return lib.Int32Value(value), decimalText(int64(value), 2)
		}, numbers},
		{lib.Decimal(5, 18, lib.Int64Type), "numeric(18,5)", func(r *rand.Rand) (lib.Value, string) {
			value := r.Int64N(2e18-1) - 1e18 + 1
			return lib.Int64Value(value), decimalText(value, 5)
		}, numbers},
		{lib.Decimal(3, 20, lib.FixedLenByteArrayType(9)), "numeric(20,3)", func(r *rand.Rand) (lib.Value, string) {
			value := int64(r.Uint64())
			bytes := make([]byte, 9)
			for i := range bytes[1:] {
				bytes[8-i] = byte(value >> (8 * i))
			}
			if value < 0 {
				bytes[0] = 255
			}
			return lib.FixedLenByteArrayValue(bytes), decimalText(value, 3)
		}, nil},
		{lib.Date(), "date", func(r *rand.Rand) (lib.Value, string) {
			at := moment(r)
			return lib.Int32Value(int32(at.Truncate(24*time.Hour).Unix() / 86400)), day(at)
		}, numbers},
		{lib.Time(lib.Millisecond), "time without time zone", func(r *rand.Rand) (lib.Value, string) {
			at := moment(r).Truncate(time.Millisecond)
			since := at.Sub(at.Truncate(24 * time.Hour))
			return lib.Int32Value(int32(since.Milliseconds())), at.Format("15:04:05") + fraction(at, 3)
		}, numbers},
		{lib.TimestampAdjusted(lib.Millisecond, false), "timestamp without time zone", func(r *rand.Rand) (lib.Value, string) {
			at := moment(r).Truncate(time.Millisecond)
			return lib.Int64Value(at.UnixMilli()), day(at) + at.Format(" 15:04:05") + fraction(at, 3)
		}, numbers},
		{lib.Timestamp(lib.Microsecond), "timestamp with time zone", func(r *rand.Rand) (lib.Value, string) {
			at := moment(r)
			return lib.Int64Value(at.UnixMicro()), day(at) + at.Format(" 15:04:05") + fraction(at, 6) + "+00"
		}, numbers},
		{lib.TimestampAdjusted(lib.Nanosecond, false), "", func(r *rand.Rand) (lib.Value, string) {
			at := time.Unix(r.Int64N(1e9), r.Int64N(1e9)).UTC()
			return lib.Int64Value(at.UnixNano()), day(at) + at.Format(" 15:04:05") + fraction(at, 9)
		}, numbers},
		{lib.UUID(), "uuid", func(r *rand.Rand) (lib.Value, string) {
			id := make([]byte, 16)
			for i := range id {
				id[i] = byte(r.Uint32())
			}
			return lib.FixedLenByteArrayValue(id), fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
		}, nil},
		{lib.Leaf(lib.ByteArrayType), "bytea", func(r *rand.Rand) (lib.Value, string) {
			data := make([]byte, r.IntN(5))
			for i := range data {
				data[i] = byte(r.Uint32())
			}
			return lib.ByteArrayValue(data), fmt.Sprintf(`\x%x`, data)
		}, texts},
		{lib.String(), "text", func(r *rand.Rand) (lib.Value, string) {
			text := []string{"", "007", "é€", "a,b\n\"c\"", "NULL", `\N`, " x "}[r.IntN(7)]
			return lib.ByteArrayValue([]byte(text)), text
		}, texts},
		{lib.JSON(), "jsonb", func(r *rand.Rand) (lib.Value, string) {
			text := fmt.Sprintf(`{"a": %d}`, r.IntN(9))
			return lib.ByteArrayValue([]byte(text)), text
		}, texts},
	}
}

// A schema has columns in the order of their names.
type schema []column

func name(i int) string { return fmt.Sprintf("c%02d", i) }

// generate makes a file of random columns, and the texts of its cells; nil is NULL.
func generate(r *rand.Rand) (chosen schema, cells [][]*string, file []byte) {
	codecs := []compress.Codec{&lib.Uncompressed, &lib.Snappy, &lib.Gzip, &lib.Zstd, &lib.Brotli}
	all, group := columns(), lib.Group{}
	var isOptional []bool
	for i := range 1 + r.IntN(8) {
		column := all[r.IntN(len(all))]
		node := lib.Compressed(column.node, codecs[r.IntN(len(codecs))])
		if len(column.encodings) > 0 && r.IntN(2) == 0 {
			node = lib.Encoded(node, column.encodings[r.IntN(len(column.encodings))])
		}
		isOptional = append(isOptional, r.IntN(2) == 0)
		if isOptional[i] {
			node = lib.Optional(node)
		}
		group[name(i)] = node
		chosen = append(chosen, column)
	}
	var written bytes.Buffer
	writer := lib.NewWriter(&written, lib.NewSchema("rows", group), lib.PageBufferSize(64+r.IntN(1000)),
		lib.DataPageVersion(1+r.IntN(2)), lib.MaxRowsPerRowGroup(int64(1+r.IntN(100))))
	for range r.IntN(150) {
		var row lib.Row
		var line []*string
		for i, column := range chosen {
			if isOptional[i] && r.IntN(5) == 0 {
				row, line = append(row, lib.Value{}.Level(0, 0, i)), append(line, nil)
				continue
			}
			value, text := column.value(r)
			definition := 0
			if isOptional[i] {
				definition = 1
			}
			row, line = append(row, value.Level(0, definition, i)), append(line, &text)
		}
		if _, err := writer.WriteRows([]lib.Row{row}); err != nil {
			panic(err)
		}
		cells = append(cells, line)
	}
	if err := writer.Close(); err != nil {
		panic(err)
	}
	return chosen, cells, written.Bytes()
}

func open(file []byte) (*parquet.Reader, error) {
	return parquet.Open(bytes.NewReader(file), int64(len(file)), nil)
}

// readAll returns the texts of all cells; nil is NULL.
func readAll(reader *parquet.Reader) (cells [][]*string, err error) {
	defer reader.Close()
	for {
		record, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return cells, nil
		}
		if err != nil {
			return cells, err
		}
		if record.Line != int64(len(cells)+1) || record.IsBad {
			return cells, fmt.Errorf("record %d: line %d, bad %v", len(cells)+1, record.Line, record.IsBad)
		}
		var line []*string
		for _, field := range record.Fields {
			var cell *string
			if text := string(field.Text); text != "" || field.IsQuoted {
				cell = &text
			}
			line = append(line, cell)
		}
		cells = append(cells, line)
	}
}

func TestEveryCellOfAFileIsReadAsItIs(t *testing.T) {
	t.Parallel()
	count := generatedFiles
	if testing.Short() {
		count = shortFiles
	}
	for seed := range uint64(count) {
		chosen, cells, file := generate(rand.New(rand.NewPCG(25, seed)))
		reader, err := open(file)
		if err != nil {
			t.Fatalf("file %d: %v", seed, err)
		}
		for i, column := range reader.Columns() {
			if column.Name != name(i) || column.Type != chosen[i].typeName {
				t.Fatalf("file %d: column %d is %v, want %s", seed, i, column, chosen[i].typeName)
			}
		}
		got, err := readAll(reader)
		if err != nil {
			t.Fatalf("file %d: %v", seed, err)
		}
		if !reflect.DeepEqual(got, cells) {
			t.Fatalf("file %d: %s, want %s", seed, shown(got), shown(cells))
		}
	}
}

func shown(cells any) string {
	text, _ := json.Marshal(cells)
	return string(text)
}

// A nested row has each way of nesting.
type nested struct {
	ID      int64                `parquet:"id"`
	Tags    []string             `parquet:"tags,list"`
	Scores  []*int32             `parquet:"scores,list,optional"`
	Matrix  []line               `parquet:"matrix,list"`
	Home    *address             `parquet:"home,optional"`
	Others  []address            `parquet:"others"`
	ByName  map[string]int64     `parquet:"by_name"`
	ByPlace map[string][]address `parquet:"by_place"`
}

type line struct {
	Cells []int64 `parquet:"cells,list" json:"cells"`
}

type address struct {
	Street string   `parquet:"street" json:"street"`
	Number *int64   `parquet:"number,optional" json:"number"`
	Flats  []string `parquet:"flats" json:"flats"`
}

func TestNestedValuesBecomeJSON(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(25, 1))
	texts := func() []string {
		all := make([]string, r.IntN(4))
		for i := range all {
			all[i] = []string{"", "a", `"\`, "\n\x01é"}[r.IntN(4)]
		}
		return all
	}
	addresses := func() []address {
		all := make([]address, r.IntN(3))
		for i := range all {
			all[i] = address{Street: fmt.Sprint("s", r.IntN(9)), Flats: texts()}
			if r.IntN(2) == 0 {
				all[i].Number = new(r.Int64())
			}
		}
		return all
	}
	var rows []nested
	for id := range int64(500) {
		row := nested{ID: id, Tags: texts(), Others: addresses(), ByName: map[string]int64{}, ByPlace: map[string][]address{}}
		for range r.IntN(3) {
			row.Scores = append(row.Scores, new(int32(r.Uint32())))
			row.Matrix = append(row.Matrix, line{[]int64{r.Int64(), -1}[:r.IntN(3)]})
			row.ByName[fmt.Sprint("k", r.IntN(5))] = r.Int64()
			row.ByPlace[fmt.Sprint("p", r.IntN(5))] = addresses()
		}
		if r.IntN(2) == 0 {
			row.Home = &append(addresses(), address{Flats: []string{}})[0]
		}
		rows = append(rows, row)
	}
	var file bytes.Buffer
	if err := lib.Write(&file, rows, lib.PageBufferSize(500), lib.MaxRowsPerRowGroup(70)); err != nil {
		t.Fatal(err)
	}
	reader, err := open(file.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	for i, column := range reader.Columns()[1:] {
		if column.Type != "jsonb" {
			t.Errorf("column %d is %v", i, column)
		}
	}
	got, err := readAll(reader)
	if err != nil || len(got) != len(rows) {
		t.Fatalf("%d rows, %v", len(got), err)
	}
	for i, row := range rows {
		for j, want := range []any{row.ID, row.Tags, row.Scores, row.Matrix, row.Home, row.Others, row.ByName, row.ByPlace} {
			written, _ := json.Marshal(want)
			isNull := got[i][j] == nil
			if isNull && string(written) == "null" || !isNull && isSame(*got[i][j], string(written)) {
				continue
			}
			t.Fatalf("row %d, column %d: %v, want %s", i, j, shown(got[i:i+1]), written)
		}
	}
}

// isSame compares JSON. A list that is null in Go is an empty one in a file.
func isSame(got, want string) bool {
	var left, right any
	if json.Unmarshal([]byte(got), &left) != nil || json.Unmarshal([]byte(want), &right) != nil {
		return false
	}
	return reflect.DeepEqual(left, right) || got == "[]" && right == nil
}

// Each prefix of a file, and each file with a changed byte, is read or refused: no panic, no endless loop, no memory that
// only a number in the file asks for.
func TestADamagedFileIsRefused(t *testing.T) {
	t.Parallel()
	_, _, file := generate(rand.New(rand.NewPCG(25, 77)))
	tries := 3000
	if testing.Short() {
		tries = 300
	}
	r := rand.New(rand.NewPCG(25, 2))
	for i := range tries {
		damaged := slices.Clone(file)
		if i%4 == 0 {
			damaged = damaged[:r.IntN(len(damaged))]
		} else {
			for range 1 + r.IntN(3) {
				damaged[r.IntN(len(damaged))] = byte(r.Uint32())
			}
		}
		reader, err := open(damaged)
		if err == nil {
			_, err = readAll(reader)
		}
		if err != nil && !errors.Is(err, parquet.ErrFile) && !strings.HasPrefix(err.Error(), "record ") {
			t.Fatalf("try %d: %v", i, err)
		}
		if i%4 == 0 && err == nil {
			t.Fatalf("try %d: a part of a file is read as a whole", i)
		}
	}
}

func TestBytesWithoutATypeAreTextWhereThatIsSaid(t *testing.T) {
	t.Parallel()
	var file bytes.Buffer
	if err := lib.Write(&file, []struct{ Old []byte }{{[]byte("plain")}}); err != nil {
		t.Fatal(err)
	}
	for _, texts := range [][]string{nil, {"Old"}} {
		reader, err := parquet.Open(bytes.NewReader(file.Bytes()), int64(file.Len()), texts)
		if err != nil {
			t.Fatal(err)
		}
		cells, err := readAll(reader)
		want := map[bool]string{false: `bytea \x706c61696e`, true: "text plain"}[texts != nil]
		if got := reader.Columns()[0].Type + " " + *cells[0][0]; err != nil || got != want {
			t.Errorf("%s, %v, want %s", got, err, want)
		}
	}
}
