package web_test

import (
	"fmt"
	"html"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// Types that the user has chosen, lines that do not fit, and a file that is dropped on the page.
func TestUploadsScreen(t *testing.T) {
	f := newFixture(t)
	b := newBrowser(t)
	b.checkEveryLook("upload, empty", f.server.URL+"/upload")
	b.chooseFile("orders.csv", "id,total,code\n1,10,7\n2,3.50,8\n,7.25,N/A\n")
	b.do("see the columns", chromedp.WaitVisible(chromedp.CSS("#upload-columns tbody tr:nth-child(3)")))
	b.expect("#upload-columns p", "orders.csv: UTF8, delimiter comma")
	b.expect("#upload-columns tbody tr:nth-child(1) .samples", "null")
	b.expect("#upload-columns tbody tr:nth-child(2) td:last-child", "integer until line 3: 3.50")
	b.expect("#upload-columns tbody tr:nth-child(3) td:last-child", "integer until line 4: N/A")
	b.expect("#upload-psql pre", `import_staging('staging', 'orders')`)
	b.checkLooks("preview")
	b.takeScreenshots("upload-preview")
	b.choose("#upload-columns tr:nth-child(1) select", "id=text")
	b.press("#upload .buttons button")
	b.expect("h1", "orders")
	b.expect(".done", "3 rows of orders.csv are in the table. It took ")
	b.expect("#rows thead", "text")
	b.press(".done a")
	b.expect("#import dl", "create")
	b.expect("#columns tbody tr:nth-child(1)", "text")
	b.checkLooks("an import")
	b.takeScreenshots("import")

	// The name is taken; one click appends.
	b.do("open the form", chromedp.Navigate(f.server.URL+"/upload"))
	b.chooseFile("orders.csv", "id,total,code\n4,1.5,9\n")
	b.expect("#upload-said .problem", "is there already")
	b.click("#upload .buttons button")
	b.expect("#upload-said .remedies button:nth-child(2)", "append to its rows")
	b.checkLooks("upload, refused")
	b.takeScreenshots("upload-refused")
	b.press("#upload-said .remedies button:nth-child(2)")
	b.expect(".done", "1 row of orders.csv is in the table.")

	// Lines that are no rows are filled up by one click.
	b.do("open the form", chromedp.Navigate(f.server.URL+"/upload"))
	b.chooseFile("ragged.csv", "a,b\n1,2\n3\n4,5,6\n")
	b.click("#upload .buttons button")
	b.expect("#upload-said .lines tbody tr:nth-child(2)", "4,5,6")
	b.expect("#upload-said .remedies button:nth-child(1)", "Lines to skip at the end: 2")
	b.expect("#upload-said .remedies button:nth-child(2)", "Lines with too few or too many fields: fill up, or add columns")
	b.press("#upload-said .remedies button:nth-child(2)")
	b.expect(".done", "2 lines were repaired or left out")
	b.press(".done a")
	b.expect("#lines tbody tr:nth-child(1)", "1 field instead of 2")
	b.checkLooks("an import with lines")

	b.do("open the form", chromedp.Navigate(f.server.URL+"/upload"))
	b.do("drop a file", chromedp.Evaluate[chromedp.Void](`(() => {
		const files = new DataTransfer();
		files.items.add(new File(['n\n1\n2\n'], 'dropped.csv', { type: 'text/csv' }));
		for (const kind of ['dragenter', 'dragover', 'drop']) {
			document.body.dispatchEvent(new DragEvent(kind,
				{ dataTransfer: files, bubbles: true, cancelable: true }));
		}
	})()`))
	b.expect("#upload-columns th[scope=row]", "n")
	b.press("#upload .buttons button")
	b.expect(".done", "2 rows of dropped.csv")

	b.do("open the log", chromedp.Navigate(f.server.URL+"/imports?search=orders"))
	b.expect("#imports tbody tr:nth-child(1)", "append")
	b.do("only these", chromedp.WaitNotPresent(chromedp.CSS("#imports tbody tr:nth-child(3)")))
	b.checkLooks("imports")
	b.takeScreenshots("imports")
	b.checkErrors()
}

// Several files go into one table, or into one each.
func TestUploadOfSeveralFiles(t *testing.T) {
	f := newFixture(t)
	b := newBrowser(t)
	folder := t.TempDir()
	var paths []string
	for _, name := range []string{"may.csv", "june.csv"} {
		paths = append(paths, filepath.Join(folder, name))
		if err := os.WriteFile(paths[len(paths)-1], []byte("n\n1\n2\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	choose := func() {
		b.do("open the form", chromedp.Navigate(f.server.URL+"/upload"))
		b.do("choose files", chromedp.SetUploadFiles(chromedp.CSS("#upload-file"), paths))
		b.expect("#upload-columns th[scope=row]", "n")
		b.expect(".file li:nth-child(2)", "june.csv, 1 kB")
	}
	choose()
	b.press("#upload .buttons button")
	b.expect(".done", "4 rows of may.csv")
	f.exec("drop table may")
	choose()
	b.choose("#upload-several", "each")
	b.press("#upload .buttons button")
	b.expect("h1", "Imports")
	b.expect("#imports tbody tr:nth-child(1)", "june.csv")
	b.expect("#imports tbody tr:nth-child(2)", "may.csv")
	if f.number("select count(*) from may") != 2 || f.number("select count(*) from june") != 2 {
		t.Error("the files are not in a table each")
	}
	// The second is there already.
	f.exec("drop table may")
	choose()
	b.choose("#upload-several", "each")
	b.click("#upload .buttons button")
	b.expect("#upload-said .problem", "june.csv: table ")
	b.expect("#upload-said .problem", "the 1 before it are imported")
	b.checkErrors()
}

// During an upload that never ends, the message about the last one is removed. When the user leaves the page
// and returns, it says that the upload was interrupted.
func TestBrowserLeavesAnUpload(t *testing.T) {
	f := newFixture(t)
	f.importSample()
	b := newBrowser(t)
	b.do("open the form", chromedp.Navigate(f.server.URL+"/upload"))
	b.chooseFile("sample.csv", "")
	b.click("#upload .buttons button")
	b.expect("#upload .problem", "is there already")
	b.do("the button works again", chromedp.WaitEnabled(chromedp.CSS("#upload .buttons button")))

	// A request that is never answered, like one for a file that takes long.
	b.do("have it take its time", chromedp.Evaluate[chromedp.Void](`XMLHttpRequest.prototype.send = function () { window.held = this; }`))
	b.click("#upload .buttons button")
	b.do("it runs", chromedp.WaitVisible(chromedp.CSS("#upload .stop")))
	if count := read(b, "count the errors", chromedp.Evaluate[int](`document.querySelectorAll('#upload .problem').length`)); count != 0 {
		t.Error("the error of the last upload is beside the one that runs")
	}
	isHeld := read(b, "look whether leaving is asked for", chromedp.Evaluate[bool](
		`!window.dispatchEvent(new Event('beforeunload', { cancelable: true }))`))
	if !isHeld {
		t.Error("nothing warns who leaves the page while an upload runs")
	}
	b.do("progress", chromedp.Evaluate[chromedp.Void](
		`window.held.upload.onprogress({ loaded: 500000, total: 2000000, lengthComputable: true })`))
	b.expect("#upload output", "25 % of 2.0 MB")
	b.do("leave the page", chromedp.Evaluate[chromedp.Void](`window.dispatchEvent(new Event('pagehide'))`))
	// The browser then ends the request. Without this it would ask the user first.
	b.do("stop", chromedp.Evaluate[chromedp.Void](`window.held.onabort()`))
	b.expect("#upload .problem", "the upload was stopped; nothing was imported")
	b.do("come back", chromedp.Navigate(f.server.URL+"/upload?again=1"))
	b.expect("#upload .problem", "you left the page during the upload of sample.csv")
	b.expect("#upload .problem", "Nothing was imported.")
	b.do("and once more", chromedp.Navigate(f.server.URL+"/upload"), chromedp.WaitVisible(chromedp.CSS("#upload-file")))
	if count := read(b, "count the errors", chromedp.Evaluate[int](`document.querySelectorAll('#upload .problem').length`)); count != 0 {
		t.Error("it is said again")
	}
}

func TestUploadsScreenWithoutJavaScript(t *testing.T) {
	f := newFixture(t)
	b := newBrowser(t)
	b.do("switch JavaScript off", call(emulation.SetScriptExecutionDisabled,
		emulation.SetScriptExecutionDisabledParams{Value: true}))
	b.do("open the form", chromedp.Navigate(f.server.URL+"/upload"))
	// A type is chosen, and the file is chosen again.
	for range 2 {
		b.chooseFile("orders.csv", threeOrders)
		b.press("#upload .second")
		b.choose("#upload-columns tr:nth-child(1) select", "id=text")
	}
	b.chooseFile("orders.csv", threeOrders)
	b.press("#upload .second")
	if kept := b.value("#upload-columns tr:nth-child(1) select"); kept != "id=text" {
		t.Errorf("the type is %q after another preview, want the one that was chosen", kept)
	}
	b.chooseFile("orders.csv", threeOrders)
	b.press("#upload .buttons button")
	b.expect(".done", "3 rows of orders.csv")
	b.expect("#rows thead", "text")

	const ragged = "a,b\n1,2\n3\n"
	b.press(`header a[href="/upload"]`)
	b.chooseFile("ragged.csv", ragged)
	b.fill("#upload-table", "lines")
	b.press("#upload .buttons button")
	b.expect("#upload-said .lines", "1 field instead of 2")
	b.press("#upload-said .remedies a")
	if table, how := b.value("#upload-table"), b.value("#upload-skip_end"); table != "lines" || how != "1" {
		t.Errorf("the form keeps table %q, and has %q lines at the end", table, how)
	}
	b.chooseFile("ragged.csv", ragged)
	b.press("#upload .buttons button")
	b.expect("h1", "lines")
	b.expect(".done", "1 row of ragged.csv")
	b.checkErrors()
}

// The SQL that the page shows does what was done.
func TestImportShowsHowItWasDone(t *testing.T) {
	f := newFixture(t)
	for _, test := range []struct {
		name, path, file, contents string
		want                       []string
	}{
		{"as usual", "", "plain.csv", "a,b\n1,2\n",
			[]string{`from 'plain.csv' with (format csv, header)`, `import_staging('staging', 'plain', mode => 'replace')`}},
		{"written otherwise", "?encoding=LATIN1&skip=2&delimiter=%3B&quote=%27", "odd.csv", "about\n\n'a';b\n1;'x'\n",
			[]string{`program 'tail -n +3 ''odd.csv'''`, `delimiter ';'`, `quote ''''`, `encoding 'LATIN1'`}},
		{"without quotes", "?quote=none", "inches.csv", "a,b\n5\",2\n", []string{`header, quote e'\x01')`}},
		{"without a header", "?header=no", "bare.csv", "1,2\n3,4\n", []string{`with (format csv)`}},
		{"by key", "?mode=upsert&key=a", "keyed.csv", "a,b\n1,2\n", []string{`mode => 'upsert', key => array['a']`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			f.send(form("POST", "/upload-file"+test.path, field{name: "file", file: test.file, value: test.contents}))
			id := f.number("select max(id) from tinydevcrm.imports where source = $1", test.file)
			page := html.UnescapeString(f.send(get(fmt.Sprint("/imports/", id)).fromBrowser()).body)
			_, shown, _ := strings.Cut(page, `\copy`)
			shown, _, _ = strings.Cut(shown, "</pre>")
			for _, want := range test.want {
				if !strings.Contains(shown, want) {
					t.Errorf("the page lacks %s: %s", want, shown)
				}
			}
		})
	}
	f.exec("create temporary table staging (n text)")
	f.exec("create table staged (n text)")
	f.exec("select * from tinydevcrm.import_staging('staged', 'from_staging')")
	id := f.number("select max(id) from tinydevcrm.imports")
	page := html.UnescapeString(f.send(get(fmt.Sprint("/imports/", id)).fromBrowser()).body)
	if !strings.Contains(page, `import_staging('staged', 'from_staging'`) && !strings.Contains(page, `import_staging('staging', 'from_staging'`) || strings.Contains(page, `\copy`) {
		t.Errorf("an import from a staging table: %s", page)
	}
}

func TestImportRoutes(t *testing.T) {
	f := newFixture(t)
	f.importFile("Q3 Sales.csv", "a,b\n1,x\n")
	f.importFile("gone.csv", "n\n1\n")
	f.exec("drop table gone")
	id := f.number("select max(id) from tinydevcrm.imports where source = 'Q3 Sales.csv'")
	for _, test := range []struct {
		path, accept, says string
		status             int
	}{
		{"/imports?search=q3", "", `"row_count":1,`, http.StatusOK},
		{"/imports?search=none-such", "", "[]\n", http.StatusOK},
		{"/imports?search=none-such", "text/html", "No import has", http.StatusOK},
		{fmt.Sprint("/imports/", id), "", `"columns":[{`, http.StatusOK},
		{fmt.Sprint("/imports/", id), "text/html", "<h1>Import ", http.StatusOK},
		{fmt.Sprint("/imports/", id+1), "text/html", "no longer there", http.StatusOK},
		{"/imports/x", "text/html", "there is no import x of yours", http.StatusNotFound},
		{"/imports/9223372036854775807", "", "TD001", http.StatusNotFound},
		{"/upload?table=orders&mode=append&ragged=pad", "text/html", `<option value="append" selected>`, http.StatusOK},
		{"/upload?ragged=pad", "text/html", `<option value="pad" selected>`, http.StatusOK},
	} {
		request := get(test.path)
		if test.accept != "" {
			request = withHeader(request, "Accept", test.accept)
		}
		if got := f.send(request); got.status != test.status || !strings.Contains(got.body, test.says) {
			t.Errorf("%s: %d %s", test.path, got.status, got.body)
		}
	}
}
