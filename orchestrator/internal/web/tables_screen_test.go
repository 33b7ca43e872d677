package web_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

func (f *fixture) useTables() {
	f.t.Helper()
	f.exec(`create table "My orders" (id integer, "the customer" text, price numeric, paid boolean)`)
	f.exec(`insert into "My orders" select n, 'customer ' || n % 5, n * 1.5, nullif(n % 3, 0) = 1 from generate_series(1, 120) n`)
	f.exec(`analyze "My orders"`)
	f.exec(`create table other (a integer)`)
	f.exec(`select tinydevcrm.create_matview('dear', 'select * from "My orders" where price > 100')`)
}

func TestTablesScreen(t *testing.T) {
	f := newFixture(t)
	b := newBrowser(t)
	b.checkEveryLook("no tables", f.server.URL+"/tables")
	b.expect("#tables .empty", "No tables yet.")

	f.useTables()
	b.do("open the tables", chromedp.Navigate(f.server.URL+"/tables?sort=-rows"))
	b.expect("#tables tbody tr:first-child th", `"My orders"`)
	b.expect("#tables tbody tr:first-child td:nth-child(2)", "120")
	b.checkLooks("tables")
	b.press("#tables tbody tr:first-child a")
	b.expect("h1", `"My orders"`)
	b.expect("#rows p", "120 rows")
	b.expect("#views li", "watched view dear")
	b.checkLooks("a table")

	// Sorted, filtered, page by page; and the file has the same rows.
	b.press("#rows th:nth-child(3) a")
	b.press("#rows th:nth-child(3) a")
	b.expect("#rows tbody tr:first-child td:nth-child(3)", "180.0")
	b.press(".pager [rel=next]")
	b.expect("#rows tbody tr:first-child td:nth-child(1)", "70")
	b.do("filter", chromedp.SetValue(chromedp.CSS(`[name="where.the customer"]`), "= customer 3"))
	b.press("#rows button")
	b.expect("#rows p", "24 rows")
	b.expect("#rows tbody tr:first-child td:nth-child(1)", "118")
	b.do("a filter that is no number", chromedp.SetValue(chromedp.CSS(`[name="where.price"]`), "> dear"))
	b.press("#rows button")
	b.expect(".problem", "dear")
	b.do("the columns", chromedp.Navigate(f.server.URL+"/tables/"+f.schema+".My orders/columns"))
	b.expect("#columns tbody tr:nth-child(2) td:nth-child(4)", "5")
	b.expect("#columns tbody tr:nth-child(4) td:nth-child(3)", "40")
	b.expect("#columns tbody tr:nth-child(4) td:nth-child(5)", "false")
	b.checkLooks("columns")
	b.checkErrors()
}

func TestTablesScreenWithoutJavaScript(t *testing.T) {
	f := newFixture(t)
	f.useTables()
	b := newBrowser(t)
	b.do("switch JavaScript off", call(emulation.SetScriptExecutionDisabled,
		emulation.SetScriptExecutionDisabledParams{Value: true}))
	b.do("open a table", chromedp.Navigate(f.server.URL+"/tables/"+f.schema+".My orders"))
	b.do("a new name", chromedp.SetValue(chromedp.CSS("#new-name"), "other"))
	b.press("#rename button")
	b.expect("#rename .problem", `relation "other" already exists`)
	b.do("another one", chromedp.SetValue(chromedp.CSS("#new-name"), "orders/2026"))
	b.press("#rename button")
	b.expect("h1", `"orders/2026"`)
	b.expect(".done", "new name")
	b.click("#drop [type=checkbox]")
	b.press("#drop button")
	b.expect(".done", "The table is dropped.")
	b.expect("#tables tbody", "other")
	b.checkErrors()
	if f.number(`select count(*) from tinydevcrm.matview_refresh_events where outcome = 'dropped' and matview = $1`, f.schema+".dear") != 1 {
		t.Error("nobody is notified of the dropped view")
	}
}

func TestTableRoutes(t *testing.T) {
	f := newFixture(t)
	f.useTables()
	for _, test := range []struct {
		path, accept, contentType, says string
		status                          int
	}{
		{"/tables", "", "application/json", `"matview_count":1`, http.StatusOK},
		{"/tables/My orders.csv?where.id=%3C%203&sort=-id", "", "text/csv", "id,the customer,price,paid\r\n2,customer 2,3.0,false\r\n1,customer 1,1.5,true\r\n", http.StatusOK},
		{"/tables/My orders.json?where.paid=is%20null&where.id=%3C4", "text/html", "application/json", `[{"id":3,"the customer":"customer 3","price":4.5,"paid":null}]`, http.StatusOK},
		{"/tables/My orders?where.id=%3C33", "text/html", "text/html", "32 rows with these values", http.StatusOK},
		{"/tables/My orders?where.nothing=1", "text/html", "text/html", "has no column nothing", http.StatusUnprocessableEntity},
		{"/tables/none", "text/html", "text/html", "there is no table none of yours", http.StatusNotFound},
		{"/tables/none.csv", "", "application/json", "there is no table none.csv of yours", http.StatusNotFound},
		{"/tables/none/columns", "text/html", "text/html", "there is no table none of yours", http.StatusNotFound},
		{"/tables/pg_class", "text/html", "text/html", "there is no table pg_class of yours", http.StatusNotFound},
	} {
		request := get(strings.ReplaceAll(test.path, " ", "%20"))
		if test.accept != "" {
			request = withHeader(request, "Accept", test.accept)
		}
		got := f.send(request)
		if got.status != test.status || !strings.HasPrefix(got.header.Get("Content-Type"), test.contentType) || !strings.Contains(got.body, test.says) {
			t.Errorf("%s: status %d, %s: %.500s", test.path, got.status, got.header.Get("Content-Type"), got.body)
		}
	}
}
