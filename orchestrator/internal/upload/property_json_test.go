package upload_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	surrogates "unicode/utf16"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
)

// A value of JSON as it is written, and how: a text by its own, anything else by what the standard library decodes.
type jsonValue struct {
	written string
	text    cell // nil unless it is a text
}

// jsonKinds generate the values of a key.
func jsonKinds() []func(*rand.Rand) jsonValue {
	return []func(*rand.Rand) jsonValue{
		func(r *rand.Rand) jsonValue { return jsonValue{written: strconv.Itoa(r.IntN(2000) - 1000)} },
		func(r *rand.Rand) jsonValue { return jsonValue{written: strconv.FormatInt(r.Int64()-r.Int64(), 10)} },
		func(r *rand.Rand) jsonValue {
			return jsonValue{written: fmt.Sprintf("%d.%02d", r.IntN(100000), r.IntN(100))}
		},
		func(r *rand.Rand) jsonValue {
			form := []byte{'e', 'g', 'f'}[r.IntN(3)]
			return jsonValue{written: strconv.FormatFloat(r.NormFloat64()*[]float64{1e-7, 1, 1e20}[r.IntN(3)], form, -1, 64)}
		},
		func(r *rand.Rand) jsonValue {
			return jsonValue{written: []string{"0", "-0", "-0.0", "0e5", "1e3", "1E3", "12.5e+2", "1e-3", "-1.50e1", "12345678901234567890123",
				"12345678901234567890.123e5", "9e307", "1e-320", "1e400", "-2.5E-400", "0.00001e3", "100e-2"}[r.IntN(17)]}
		},
		func(r *rand.Rand) jsonValue { return jsonValue{written: []string{"true", "false"}[r.IntN(2)]} },
		func(r *rand.Rand) jsonValue { return jsonValue{written: nested(r, 0)} },
		func(r *rand.Rand) jsonValue { return textOf(r, pick(r, kinds)(r)) },
	}
}

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

// textOf writes a text, some of its characters escaped.
func textOf(r *rand.Rand, text string) jsonValue {
	var b strings.Builder
	b.WriteByte('"')
	for _, character := range text {
		short := strings.IndexRune("\"\\\n\r\t/", character)
		switch {
		case short >= 0 && character != '/' || character == '/' && r.IntN(2) == 0:
			b.WriteString([]string{`\"`, `\\`, `\n`, `\r`, `\t`, `\/`}[short])
		case character < ' ' || r.IntN(20) == 0:
			for _, unit := range surrogates.Encode([]rune{character}) {
				fmt.Fprintf(&b, []string{`\u%04x`, `\u%04X`}[r.IntN(2)], unit)
			}
		default:
			b.WriteRune(character)
		}
	}
	b.WriteByte('"')
	return jsonValue{b.String(), &text}
}

// nested writes a list or an object.
func nested(r *rand.Rand, depth int) string {
	var items []string
	isList := r.IntN(2) == 0
	for i := range r.IntN(4) {
		item := pick(r, jsonKinds()[:7])
		value := "null"
		switch {
		case r.IntN(5) == 0 && depth < 3:
			value = nested(r, depth+1)
		case r.IntN(5) > 0:
			if value = item(r).written; strings.ContainsAny(value, "{[") {
				value = textOf(r, `[{"\`).written
			}
		}
		if !isList {
			value = textOf(r, fmt.Sprintf("k%d", i)).written + ":" + value
		}
		items = append(items, value)
	}
	if isList {
		return "[" + strings.Join(items, ",") + "]"
	}
	return "{" + strings.Join(items, " , ") + "}"
}

// generateJSON returns the values of a file by key, and its text.
func generateJSON(r *rand.Rand) (objects []map[string]jsonValue, text []byte, request upload.Request) {
	width := 1 + r.IntN(6)
	columns := make([]func(*rand.Rand) jsonValue, width)
	first := make([]int, width) // the object that has the key first
	for i := range columns {
		kind, text := pick(r, jsonKinds()), pick(r, kinds)
		if columns[i] = kind; r.IntN(2) == 0 {
			columns[i] = func(r *rand.Rand) jsonValue { return textOf(r, text(r)) }
		}
		if i > 0 && r.IntN(3) == 0 {
			first[i] = r.IntN(40)
		}
	}
	for n := range 1 + r.IntN(40) {
		object := make(map[string]jsonValue)
		for i, kind := range columns {
			if r.IntN(60) == 0 {
				kind = pick(r, jsonKinds()) // a surprise
			}
			switch r.IntN(12) {
			case 0:
				object[fmt.Sprintf("c%d", i)] = jsonValue{written: "null"}
			case 1:
			default:
				object[fmt.Sprintf("c%d", i)] = kind(r)
			}
			if n < first[i] {
				delete(object, fmt.Sprintf("c%d", i))
			}
		}
		objects = append(objects, object)
	}
	objects[0]["c0"] = columns[0](r)
	text = writeJSON(r, objects)
	request = upload.Request{Source: "t"}.WithSizes(1+r.IntN(400), 1+r.IntN(200))
	if r.IntN(3) == 0 {
		request = request.ByText()
	}
	return objects, text, request
}

// writeJSON writes objects as lines, as a list, or one after the other.
func writeJSON(r *rand.Rand, objects []map[string]jsonValue) []byte {
	way := r.IntN(3)
	blank := func() string { return []string{"", "", " ", "\t"}[r.IntN(4)] }
	if way > 0 {
		blank = func() string { return []string{"", " ", "\n", "\r\n  "}[r.IntN(4)] }
	}
	var b strings.Builder
	for i, object := range objects {
		keys := slices.Sorted(maps.Keys(object))
		if r.IntN(3) == 0 {
			r.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
		}
		switch {
		case i > 0 && way == 0:
			b.WriteString([]string{"\n", "\r\n", "\n\n"}[r.IntN(3)])
		case i > 0 && way == 1:
			b.WriteString(blank() + "," + blank())
		case way == 1:
			b.WriteString(blank() + "[" + blank())
		}
		b.WriteString("{")
		if way == 2 {
			b.WriteString("\n")
		}
		for j, key := range keys {
			if j > 0 {
				b.WriteString(",")
			}
			b.WriteString(blank() + textOf(r, key).written + blank() + ":" + blank() + object[key].written + blank())
		}
		b.WriteString("}")
	}
	if way == 1 {
		b.WriteString(blank() + "]" + blank())
	}
	return encode(r, []string{"UTF8", "UTF8", "UTF16LE"}[r.IntN(3)], b.String())
}

// For any file of JSON, the import keeps every value.
func TestPropertyEveryValueOfJSONComesBack(t *testing.T) {
	t.Parallel()
	pool, _ := dbtest.Schema(t)
	files := propertyFiles
	if testing.Short() {
		files = shortFiles
		t.Logf("not run: %s with more than %d files of %d", t.Name(), files, propertyFiles)
	}
	var group sync.WaitGroup
	for worker := range 2 {
		group.Go(func() {
			for number := worker; number < files && !t.Failed(); number += 2 {
				objects, text, request := generateJSON(rand.New(rand.NewPCG(25, uint64(number))))
				request.Table = fmt.Sprintf("t%d", number)
				if err := checkJSON(t.Context(), pool, objects, text, request); err != nil {
					t.Errorf("file %d: %v\n%q", number, err, text)
				}
			}
		})
	}
	group.Wait()
}

func checkJSON(ctx context.Context, pool *sql.DB, objects []map[string]jsonValue, text []byte, request upload.Request) error {
	done, err := upload.Load(ctx, pool, bytes.NewReader(text), request)
	if err != nil {
		return errors.New(db.Explain(err).String())
	}
	var names []string
	for _, column := range done.Columns {
		names = append(names, column.Name)
	}
	used := make(map[string]bool)
	for _, object := range objects {
		for key := range object {
			used[key] = true
		}
	}
	if !slices.Equal(slices.Sorted(slices.Values(names)), slices.Sorted(maps.Keys(used))) {
		return fmt.Errorf("the columns are %v", names)
	}
	rows, err := db.Collect(ctx, pool, "read back", func(row *[]sql.NullString) []any { return []any{pq.Array(row)} },
		"select array["+strings.Join(names, "::text, ")+"::text] from "+request.Table+" order by ctid")
	if err != nil || len(rows) != len(objects) {
		return fmt.Errorf("%d rows came of %d: %w", len(rows), len(objects), err)
	}
	for i, object := range objects {
		for j, column := range done.Columns {
			var printed cell
			if rows[i][j].Valid {
				printed = &rows[i][j].String
			}
			if value := object[column.Name]; !isSameJSON(column, value, printed) {
				return fmt.Errorf("row %d, %+v: %s came back as %s", i, column, value.written, show(printed))
			}
		}
	}
	_, err = pool.ExecContext(ctx, "drop table "+request.Table)
	return err
}

// isSameJSON reports whether what Postgres prints is the value that was written.
func isSameJSON(column upload.Column, value jsonValue, printed cell) bool {
	switch {
	case value.written == "" || value.written == "null":
		return printed == nil
	case value.text != nil && column.Type != "jsonb":
		return isSame(column, value.text, printed)
	case printed == nil:
		return false
	case column.Type == "double precision":
		wrote, err1 := strconv.ParseFloat(value.written, 64)
		read, err2 := strconv.ParseFloat(*printed, 64)
		return err1 == nil && err2 == nil && wrote == read
	}
	wrote, err1 := decodeJSON(value.written)
	read, err2 := decodeJSON(*printed)
	return err1 == nil && err2 == nil && reflect.DeepEqual(wrote, read)
}

// decodeJSON decodes a value, its numbers by their size: 1e3 is 1000.
func decodeJSON(text string) (value any, err error) {
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	err = decoder.Decode(&value)
	return exact(value), err
}

func exact(value any) any {
	switch value := value.(type) {
	case json.Number:
		number, _ := new(big.Rat).SetString(value.String())
		return number.RatString()
	case []any:
		for i := range value {
			value[i] = exact(value[i])
		}
	case map[string]any:
		for key := range value {
			value[key] = exact(value[key])
		}
	}
	return value
}
