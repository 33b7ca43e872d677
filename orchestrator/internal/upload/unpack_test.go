package upload_test

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
)

// zipOf is a zip of files by name and text.
func zipOf(files ...[2]string) string {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, file := range files {
		f, err := w.Create(file[0])
		if err == nil {
			_, err = io.WriteString(f, file[1])
		}
		if err != nil {
			panic(err)
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.String()
}

func zstdOf(t testing.TB, text string) string {
	t.Helper()
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b)
	if err == nil {
		_, err = io.WriteString(w, text)
	}
	if err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	return b.String()
}

// "a,b\n1,x\n2,y\n" by the bzip2 command.
const byBzip2 = "BZh91AY&SY\xbc\xc7(E\x00\x00\x04Y\x80\x00\x10\x00\x040\x000\x00\x00` \x001\x0c\x08#A\x9a\x8e\x04\x22\x17\x8b\xb9\x22\x9c(H^c\x94\x22\x80"

func TestLoadPacked(t *testing.T) {
	const text = "a,b\n1,x\n2,y\n"
	const want = `[{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]`
	one, two := [2]string{"one.csv", "a\n1\n"}, [2]string{"sub/two.csv", "a\n2\n"}
	for _, test := range []struct{ name, file, options, want string }{
		{"gzip", packed(text), "", want},
		{"zstd", zstdOf(t, text), "", want},
		{"zstd in two frames, after one to skip", "\x50\x2a\x4d\x18\x03\x00\x00\x00abc" + zstdOf(t, "a,b\n1,x\n") + zstdOf(t, "2,y\n"), "", want},
		{"bzip2", byBzip2, "", want},
		{"a zip of a file", zipOf([2]string{"f.csv", text}), "", want},
		{"a zip of a file and what macOS adds", zipOf([2]string{"f/", ""}, [2]string{"f/f.csv", text}, [2]string{"__MACOSX/f/._f.csv", "x"}, [2]string{"f/.DS_Store", "x"}), "", want},
		{"a zip of JSON lines, compressed", zipOf([2]string{"f.jsonl.zst", zstdOf(t, `{"a":1,"b":"x"}`+"\n"+`{"a":2,"b":"y"}`)}), "", want},
		{"a zip, compressed", packed(zipOf([2]string{"f.csv", text})), "", want},
		{"one of several", zipOf(one, two), "member=one.csv", `[{"a": 1}]`},
		{"by the name without the folder", zipOf(one, two), "member=two.csv", `[{"a": 2}]`},
		{"by a pattern", zipOf(one, two), "member=sub/*", `[{"a": 2}]`},
		{"two names", zipOf(one, two, [2]string{"readme", "x"}), "member=one.csv&member=sub/two.csv", `[{"a": 1}, {"a": 2}]`},
		{"all", zipOf(one, two), "member=*", `[{"a": 1}, {"a": 2}]`},
		{"all, with their names", zipOf(one, two), "member=*&file_column=f", `[{"a": 1, "f": "f/one.csv"}, {"a": 2, "f": "f/sub/two.csv"}]`},
		{"all, of several formats", zipOf(one, [2]string{"x.json", `[{"a":3,"o":{}}]`}), "member=*", `[{"a": 1, "o": null}, {"a": 3, "o": {}}]`},
		{"a given format of what is in it", zipOf([2]string{"x", "{\"a\":\n1}"}), "format=json", `[{"a": 1}]`},
		{"a zip by order", zipOf(one), "format=zip", `[{"a": 1}]`},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, got, err := loadFile(t, "f", test.file, test.options)
			if err != nil || got != test.want {
				t.Errorf("got %s, %v, want %s", got, db.Explain(err), test.want)
			}
		})
	}
}

func TestRefusePacked(t *testing.T) {
	good := zipOf([2]string{"one.csv", "a\n1\n"}, [2]string{"two.csv", "a\n2\n"})
	crypted := []byte(zipOf([2]string{"one.csv", "a\n1\n"}))
	crypted[6] |= 1
	crypted[bytes.Index(crypted, []byte("PK\x01\x02"))+8] |= 1
	many := "PK\x03\x04" + strings.Repeat("\x00", 26) + "PK\x06\x06" + strings.Repeat("\x00", 28) + strings.Repeat("\x01", 24) +
		"PK\x06\x07\x00\x00\x00\x00\x1e" + strings.Repeat("\x00", 11) + "PK\x05\x06" + strings.Repeat("\xff", 16) + "\x00\x00"
	broken := zipOf([2]string{"one.csv", strings.Repeat("a,b\n", 1000)})
	for _, test := range []struct{ name, file, options, want string }{
		{"several files", good, "", "f has 2 files\n  one.csv (4 bytes)\n  two.csv (4 bytes)"},
		{"no such file", good, "member=three.csv", `f has no file "three.csv"`},
		{"a bad file among several", zipOf([2]string{"a.csv", "a\n1\n"}, [2]string{"b.jsonl", "{\"a\":1}\n{"}), "member=*", "b.jsonl: not JSON"},
		{"a first bad file", zipOf([2]string{"a.csv", ""}, [2]string{"b.csv", "a\n1\n"}), "member=*", "f/a.csv: the file is empty"},
		{"no files", zipOf([2]string{"f/", ""}), "", "a zip without files"},
		{"nothing", zipOf(), "", "a zip without files"},
		{"a zip in a zip", zipOf([2]string{"in.zip", good}), "", "a zip within a zip"},
		{"a zip cut off", good[:len(good)-30], "", "f cannot be unpacked"},
		{"a zip broken within", strings.Replace(broken, broken[40:44], "\xff\xff\xff\xff", 1), "", "f cannot be unpacked"},
		{"a file with a password", string(crypted), "", "it is encrypted"},
		{"a list without end", many, "", "the list of its files is longer than 8 MB"},
		{"zstd cut off", zstdOf(t, strings.Repeat("a,b\n", 10_000))[:20], "", "Check it with zstd -t."},
		{"bzip2 cut off", byBzip2[:30], "", "Check it with bzip2 -t."},
		{"a Word document", zipOf([2]string{"word/document.xml", "x"}), "", "a Word document"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, got, err := loadFile(t, "f", test.file, test.options); err == nil || !strings.Contains(db.Explain(err).String(), test.want) {
				t.Errorf("got %s, %v, want %q", got, db.Explain(err), test.want)
			}
		})
	}
}

// What unpacks to too much is refused, whatever has compressed it, and leaves nothing.
func TestRefusePackedBombs(t *testing.T) {
	dbtest.SameOnEveryServer(t)
	t.Setenv("TMPDIR", t.TempDir())
	bomb := "a\n" + strings.Repeat("1\n", 20<<20)
	for name, file := range map[string]string{"zstd": zstdOf(t, bomb), "zip": zipOf([2]string{"a", bomb}),
		"files in a zip": zipOf([2]string{"a", bomb[:len(bomb)/2]}, [2]string{"b", bomb[:len(bomb)/2]}),
		"zip in gzip":    packed(zipOf([2]string{"a", bomb}))} {
		t.Run(name, func(t *testing.T) {
			pool, _ := dbtest.Schema(t)
			request := upload.Request{Source: "t", Members: []string{"*"}}
			for want, limits := range map[string][2]int64{"more than 2000000 bytes, unpacked": {2_000_000, 0}, "unpacks to more than 100 times its size": {0, 100}} {
				request.MaxBytes, request.MaxRatio = limits[0], limits[1]
				if _, err := upload.Load(t.Context(), pool, strings.NewReader(file), request); err == nil || !strings.Contains(db.Explain(err).String(), want) {
					t.Errorf("got %v, want %q", err, want)
				}
			}
			assertNothingLeft(t, pool)
		})
	}
	if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
		t.Errorf("temporary files are left: %v, %v", left, err)
	}
}

// The packed size of a zip does not count beside that of its text.
func TestLimitIsThatOfTheText(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	text := "a\n" + strings.Repeat("1\n", 500)
	request := upload.Request{Source: "t", MaxBytes: int64(len(text))}
	if _, err := upload.Load(t.Context(), pool, strings.NewReader(zipOf([2]string{"a", text})), request); err != nil {
		t.Error(err)
	}
}

// A table has the name of the file in the zip, if that is chosen, and else that of the zip.
func TestTableNameOfZip(t *testing.T) {
	file := zipOf([2]string{"Sub/Orders 2024.csv", "a\n1\n"}, [2]string{"b.jsonl", "{\"a\":1}"})
	for member, want := range map[string]string{"Orders 2024.csv": "orders_2024", "b.jsonl": "b", "*": "export"} {
		pool, _ := dbtest.Schema(t)
		request, err := upload.NewRequest("export.zip", url.Values{"member": {member}})
		if err != nil {
			t.Fatal(err)
		}
		done, err := upload.Load(t.Context(), pool, strings.NewReader(file), request)
		if err != nil || done.TableName != want {
			t.Errorf("%s: got %s, %v, want %s", member, done.TableName, err, want)
		}
	}
}

// A zip of many files is read one by one, and leaves no temporary file.
func TestLoadManyMembers(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var files [][2]string
	for i := range 200 {
		files = append(files, [2]string{fmt.Sprintf("%d.csv", i), fmt.Sprintf("a\n%d\n", i)})
	}
	pool, _ := dbtest.Schema(t)
	done, err := upload.Load(t.Context(), pool, strings.NewReader(zipOf(files...)), upload.Request{Source: "t.zip", Members: []string{"*"}})
	if err != nil || done.RowCount != 200 || dbtest.Value[int](t, pool, "select sum(a) from t") != 199*200/2 {
		t.Errorf("got %+v, %v", done, err)
	}
	if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
		t.Errorf("temporary files are left: %v, %v", left, err)
	}
}
