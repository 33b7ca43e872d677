package web_test

import (
	"archive/zip"
	"bytes"
	"encoding/hex"
	"fmt"
	"html"
	"io"
	"math/rand/v2"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/klauspost/compress/zstd"
	"github.com/xuri/excelize/v2"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web"
)

// zipOf makes a zip of files by names and contents.
func zipOf(t *testing.T, files ...string) string {
	t.Helper()
	var packed bytes.Buffer
	writer := zip.NewWriter(&packed)
	for i := 0; i < len(files); i += 2 {
		file, err := writer.Create(files[i])
		if err == nil {
			_, err = io.WriteString(file, files[i+1])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	return packed.String()
}

// workbookOf makes a workbook with a sheet Orders of so many rows with a KB each, and a sheet Lines of one.
func workbookOf(t *testing.T, rows int) string {
	t.Helper()
	book := excelize.NewFile()
	defer book.Close()
	random := rand.NewChaCha8([32]byte{})
	err := book.SetSheetName("Sheet1", "Orders")
	if err == nil {
		_, err = book.NewSheet("Lines")
	}
	set := func(sheet string, row int, cells ...any) {
		if err == nil {
			err = book.SetSheetRow(sheet, fmt.Sprintf("A%d", row), &cells)
		}
	}
	set("Orders", 1, "id", "customer", "code")
	for row := 2; row <= rows+1; row++ {
		var code [512]byte
		random.Read(code[:])
		set("Orders", row, row, fmt.Sprintf("customer %d", row*7919%99991), hex.EncodeToString(code[:]))
	}
	set("Lines", 1, "order", "product")
	set("Lines", 2, 2, "pen")
	var file bytes.Buffer
	if err == nil {
		err = book.Write(&file)
	}
	if err != nil {
		t.Fatal(err)
	}
	return file.String()
}

// A preview needs the whole of a workbook and of a zip, offers what is in them, and follows what is chosen.
func TestSheetsAndFilesAreChosenInThePreview(t *testing.T) {
	f := newFixture(t)
	config := f.config()
	config.MaxUpload = 0
	f.server = httptest.NewServer(web.HandlerWithHeartbeat(config, heartbeat))
	t.Cleanup(f.server.Close)
	b := newBrowser(t)
	b.do("open the form", chromedp.Navigate(f.server.URL+"/upload"))
	book := workbookOf(t, 4_000)
	if len(book) < 1<<20+1<<19 {
		t.Fatalf("the workbook has only %d bytes, which a beginning would hold", len(book))
	}
	b.chooseFile("orders.xlsx", book)
	b.expect("#upload-columns tbody tr:nth-child(2)", "customer")
	b.expect("#upload-columns p", "workbook, sheet Orders")
	b.expect("#upload-sheet", "Lines: order, product")
	b.checkLooks("preview of a workbook")
	b.takeScreenshots("upload-workbook")
	b.do("go to the sheets", chromedp.Focus(chromedp.CSS("#upload-sheet")))
	b.choose("#upload-sheet", "Lines")
	b.do("choose it", chromedp.Evaluate[chromedp.Void](`document.getElementById('upload-sheet').dispatchEvent(new Event('change', { bubbles: true }))`))
	b.waitFor("the columns are those of the sheet", `document.querySelector('#upload-columns tbody')?.textContent.includes('product')`)
	if focused := read(b, "look where the focus is", chromedp.Evaluate[string]("document.activeElement.id")); focused != "upload-sheet" {
		t.Errorf("the focus has gone to %q", focused)
	}
	if b.value("#upload-sheet") != "Lines" {
		t.Error("the sheet is not kept")
	}
	command := read(b, "read how it is done", chromedp.Evaluate[string](`document.querySelector('#upload-psql pre').textContent`))
	if command != "orchestrator upload 'orders.xlsx' --sheet 'Lines'" {
		t.Errorf("by hand it is %s", command)
	}
	b.press("#upload .buttons button")
	b.expect(".done", "1 row of orders.xlsx is in the table.")
	b.press(".done a")
	b.expect("#import dl", "Excel workbook: workbook, sheet Lines")

	// A file in a zip, by a button and by the list; what was chosen for the last file is over.
	b.do("open the form", chromedp.Navigate(f.server.URL+"/upload?sheet=Lines"))
	b.chooseFile("bundle.zip", zipOf(t, "may.csv", "n\n1\n", "june.csv", "n\n2\n3\n", "read me.txt", "nothing\n"))
	b.expect("#upload-said .problem", "bundle.zip has 3 files")
	b.expect("#upload-said .remedies", "all 2 files *.csv, into one table")
	b.checkLooks("a zip of several files")
	b.takeScreenshots("upload-zip")
	b.click("#upload-said .remedies button:nth-child(2)")
	b.expect("#upload-columns p", "bundle.zip")
	b.expect("#upload-columns .samples", "2")
	b.choose("#upload-member", "*.csv")
	b.do("choose these", chromedp.Evaluate[chromedp.Void](`document.getElementById('upload-member').dispatchEvent(new Event('change', { bubbles: true }))`))
	b.waitFor("the columns are those of both", `document.querySelector('#upload-columns .samples')?.textContent.includes('1')`)
	b.press("#upload .buttons button")
	b.expect(".done", "3 rows of bundle.zip")
	b.do("open the log", chromedp.Navigate(f.server.URL+"/imports"))
	b.expect("#imports tbody tr:nth-child(1)", "CSV")
	b.expect("#imports tbody tr:nth-child(2)", "Excel workbook")

	// Of a large file nothing is sent before the button asks for it.
	b.do("open the form", chromedp.Navigate(f.server.URL+"/upload"))
	b.do("choose a large file", chromedp.Evaluate[chromedp.Void](`(() => {
		const files = new DataTransfer();
		files.items.add(new File(['PAR1', new Uint8Array(33 << 20)], 'large.parquet'));
		document.getElementById('upload-file').files = files.files;
		document.getElementById('upload-file').dispatchEvent(new Event('change', { bubbles: true }));
	})()`))
	b.expect("#upload-plan .notice", "There is no preview of large.parquet yet: all 34.6 MB of it would be sent first.")
	b.click("#upload [formaction]")
	b.expect("#upload-said .problem", "the Parquet file cannot be read")
	b.checkErrors()
}

func TestFilesOfAZipWithoutJavaScript(t *testing.T) {
	f := newFixture(t)
	b := newBrowser(t)
	b.do("switch JavaScript off", call(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}))
	b.do("open the form", chromedp.Navigate(f.server.URL+"/upload"))
	bundle := zipOf(t, "may.csv", "n\n1\n", "orders.xlsx", workbookOf(t, 3))
	b.chooseFile("bundle.zip", bundle)
	b.press("#upload [formaction]")
	b.expect("#upload-said .problem", "bundle.zip has 2 files")
	b.choose("#upload-member", "orders.xlsx")
	b.chooseFile("bundle.zip", bundle)
	b.press("#upload [formaction]")
	b.expect("#upload-columns p", "sheet Orders")
	b.choose("#upload-sheet", "Lines")
	b.chooseFile("bundle.zip", bundle)
	b.press("#upload .buttons button")
	b.expect(".done", "1 row of bundle.zip/orders.xlsx is in the table.")
	b.checkErrors()
}

// The form has each option, each format, and each ending of a file's name.
func TestTheFormKnowsEachFormat(t *testing.T) {
	f := newFixture(t)
	page := f.send(get("/upload").fromBrowser()).body
	for _, option := range upload.Options() {
		if !strings.Contains(page, `name="`+option.Name+`"`) {
			t.Errorf("the form has no option %s", option.Name)
		}
	}
	_, accepted, _ := strings.Cut(page, `accept="`)
	accepted, _, _ = strings.Cut(accepted, `"`)
	endings := upload.PackedEndings()
	for _, format := range upload.Formats() {
		if !strings.Contains(page, fmt.Sprintf(`<option value="%s">%s</option>`, format.Name, format.Label)) {
			t.Errorf("the format %s cannot be chosen", format.Name)
		}
		endings = append(endings, format.Endings...)
	}
	for _, ending := range endings {
		if !slices.Contains(strings.Split(accepted, ","), ending) {
			t.Errorf("the browser does not offer files %s: %s", ending, accepted)
		}
	}
}

func packBy(t *testing.T, text string) string {
	t.Helper()
	var packed bytes.Buffer
	writer, err := zstd.NewWriter(&packed)
	if err == nil {
		_, err = io.WriteString(writer, text)
	}
	if err != nil || writer.Close() != nil {
		t.Fatal(err)
	}
	return packed.String()
}

// What the page shows for an import, typed as it is beside the file, makes the same table.
func TestWhatAnImportShowsDoesIt(t *testing.T) {
	// What psql runs to unpack a file is a program of this machine.
	dbtest.SameOnEveryServer(t)
	f := newFixture(t)
	for _, test := range []struct {
		file, contents, options string
		isCommand               bool
	}{
		{"plain.csv", "id,code\n1,007\n2,x\n", "", false},
		{"packed.csv.zst", packBy(t, "id,code\n1,007\n2,x\n"), "", false},
		{"below a title.csv.zst", packBy(t, "Orders of May\n\nid,code\n1,007\n2,x\n3,y\n"), "", false},
		{"blanks.csv", `id, "code"` + "\n1, \"a, b\"\n2, \"x\"\n", "", true},
		{"long.csv", "id||code\n1||007\n2||x\n", "", true},
		{"wide.csv", "\xff\xfei\x00d\x00,\x00c\x00\n\x001\x00,\x00x\x00\n\x00", "", true},
		{"it's.jsonl", `{"id":1,"code":"007"}` + "\n", "", true},
		{"orders.xlsx", workbookOf(t, 3), "sheet=Lines", true},
		{"one.zip", zipOf(t, "a.csv", "n\n1\n"), "", true},
		{"some.zip", zipOf(t, "in/a b.csv", "n\n1\n", "c.csv", "n\n2\n"), "member=in/a+b.csv", true},
		{"pattern.zip", zipOf(t, "in/a.csv", "n\n1\n", "c.txt", "n\n2\n"), "member=*.csv", true},
		{"all.zip", zipOf(t, "a.csv", "n\n1\n", "c.csv", "n\n2\n"), "member=*", true},
		{"-odd.json", `[{"n": 1}]`, "", true},
	} {
		t.Run(test.file, func(t *testing.T) {
			folder := t.TempDir()
			if err := os.WriteFile(filepath.Join(folder, test.file), []byte(test.contents), 0o600); err != nil {
				t.Fatal(err)
			}
			f.exec("drop table if exists t")
			got := f.send(form("POST", "/upload-file?table=t&"+test.options, field{name: "file", file: test.file, value: test.contents}))
			if got.status != 201 {
				t.Fatalf("%d %s", got.status, got.body)
			}
			rows := f.text("select jsonb_agg(t)::text from t")
			page := html.UnescapeString(f.send(get(fmt.Sprint("/imports/", f.number("select max(id) from tinydevcrm.imports"))).fromBrowser()).body)
			_, shown, _ := strings.Cut(page, "<pre tabindex=\"0\">")
			shown, _, _ = strings.Cut(shown, "</pre>")
			isCommand := strings.HasPrefix(shown, "orchestrator ")
			if isCommand != test.isCommand {
				t.Errorf("it shows %s", shown)
			}
			f.exec("truncate t")
			if isCommand {
				f.upload(folder, shown)
			} else {
				f.psql(folder, shown)
			}
			if again := f.text("select coalesce(jsonb_agg(t)::text, '') from t"); again != rows {
				t.Errorf("%s: the rows are %s, and were %s", shown, again, rows)
			}
		})
	}
}

// psql runs commands in a folder, in a session like those of the page.
func (f *fixture) psql(folder, commands string) {
	f.t.Helper()
	program := exec.CommandContext(f.t.Context(), "psql", dbtest.URL(f.t), "-Xq", "-v", "ON_ERROR_STOP=1")
	program.Dir, program.Env, program.Stdin = folder, append(os.Environ(), "PGOPTIONS=-c search_path="+f.schema), strings.NewReader(commands)
	if out, err := program.CombinedOutput(); err != nil {
		f.t.Errorf("%s: %v %s", commands, err, out)
	}
}

// upload does what orchestrator upload does with these words of a shell.
func (f *fixture) upload(folder, command string) {
	f.t.Helper()
	out, err := exec.CommandContext(f.t.Context(), "sh", "-c", `orchestrator() { printf '%s\n' "$@"; }; `+command).Output()
	if err != nil {
		f.t.Fatal(err)
	}
	words := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	values := make(url.Values)
	for i := 2; i < len(words); i += 2 {
		values.Add(strings.ReplaceAll(strings.TrimPrefix(words[i], "--"), "-", "_"), words[i+1])
	}
	file, err := os.Open(filepath.Join(folder, words[1]))
	if err != nil {
		f.t.Fatal(err)
	}
	defer file.Close()
	if _, err := (upload.Limits{}).Load(f.t.Context(), f.pool, file, words[1], values); err != nil {
		f.t.Errorf("%s: %v", command, err)
	}
}
