package web_test

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
)

// watch creates a watched view of a query.
func (f *fixture) watch(name, query string) {
	f.t.Helper()
	f.exec(`select tinydevcrm.create_matview($1, $2)`, name, query)
}

func rowsPath(name string) string { return "/matviews/" + url.PathEscape(name) }

func TestRowsAreGivenAsAsked(t *testing.T) {
	f := newFixture(t)
	f.watch("v", "select 1 as n, null as nothing")
	f.watch("odd.csv", "select 2 as n")

	const browser = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"
	tests := []struct{ name, path, accept, contentType, says string }{
		{"nothing said", "v", "", "application/json", `[{"n":1,"nothing":null}]`},
		{"anything", "v", "*/*", "application/json", `[{"n":1,"nothing":null}]`},
		{"JSON", "v", "application/json", "application/json", `[{"n":1,"nothing":null}]`},
		{"CSV", "v", "text/csv", "text/csv", "n,nothing\r\n1,\r\n"},
		{"a browser", "v", browser, "text/html", "/views/"},
		{"by q", "v", "application/json;q=0.2, text/csv;q=0.9, text/html;q=0.5", "text/csv", "n,nothing"},
		{"the closest range", "v", "text/*;q=0.5, text/csv;q=0.1, application/json;q=0.2", "text/html", "/views/"},
		{"not JSON", "v", "application/json;q=0, */*;q=0.1", "text/html", "/views/"},
		{"nothing that there is", "v", "image/png", "application/json", `[{`},
		{"nonsense", "v", ";;q=, text/csv;q=x", "application/json", `[{`},
		{"by suffix", "v.json", browser, "application/json", `[{`},
		{"CSV by suffix", "v.csv", browser, "text/csv", "n,nothing"},
		{"Parquet", "v", "application/vnd.apache.parquet", "application/vnd.apache.parquet", "PAR1"},
		{"Parquet by suffix", "v.parquet", browser, "application/vnd.apache.parquet", "PAR1"},
		{"a page by suffix", "v.html", "application/json", "text/html", "/views/"},
		{"a name that ends so", "odd.csv", "", "application/json", `[{"n":2}]`},
		{"and its CSV", "odd.csv.csv", "", "text/csv", "n\r\n2\r\n"},
		{"with its schema", f.schema + ".v", "", "application/json", `[{"n":1`},
		{"quoted", `"` + f.schema + `"."v"`, "", "application/json", `is not watched`},
		{"as psql quotes", f.schema + `."odd.csv"`, "", "application/json", `[{"n":2}]`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			request := get(rowsPath(test.path))
			if test.accept != "" {
				request = withHeader(request, "Accept", test.accept)
			}
			got := f.send(request)
			if !strings.HasPrefix(got.header.Get("Content-Type"), test.contentType) || !strings.Contains(got.body, test.says) {
				t.Errorf("status %d, %v: %s", got.status, got.header, got.body)
			}
			if got.header.Get("Vary") != "Accept" {
				t.Errorf("Vary is %q", got.header.Get("Vary"))
			}
			head := request
			head.method = "HEAD"
			if of := f.send(head); of.status != got.status || of.body != "" ||
				of.header.Get("Content-Type") != got.header.Get("Content-Type") || of.header.Get("ETag") != got.header.Get("ETag") {
				t.Errorf("HEAD: %d, %v, %q", of.status, of.header, of.body)
			}
		})
	}
}

func TestRowsByOddNames(t *testing.T) {
	f := newFixture(t)
	tests := []struct{ name, file string }{
		{`a/b`, `attachment; filename=a_b.csv`},
		{`100%`, `attachment; filename=100_.csv`},
		{`%2F`, `attachment; filename=_2F.csv`},
		{`Say "hello"`, `attachment; filename="Say _hello_.csv"`},
		{`..`, `attachment; filename=...csv`},
		{`a.b.c`, `attachment; filename=a.b.c.csv`},
		{`é? #&;`, `attachment; filename*=utf-8''%C3%A9_%20#&%3B.csv`},
		{"line\nend", `attachment; filename=line_end.csv`},
		{`<script>`, `attachment; filename=_script_.csv`},
		{`schedule`, `attachment; filename=schedule.csv`},
	}
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f.watch(test.name, fmt.Sprintf("select %d as n", i))
			want := fmt.Sprintf(`[{"n":%d}]`+"\n", i)
			for _, name := range []string{test.name, f.schema + "." + test.name} {
				// To a client, that is another folder.
				if name == ".." {
					continue
				}
				if got := f.send(get(rowsPath(name))); got.status != 200 || got.body != want {
					t.Errorf("%s: status %d: %s", name, got.status, got.body)
				}
			}
			if got := f.send(get(rowsPath(f.schema + "." + test.name + ".csv"))); got.header.Get("Content-Disposition") != test.file {
				t.Errorf("the file is %s", got.header.Get("Content-Disposition"))
			}
			// Its page has links to all formats.
			page := f.follow(get(rowsPath(f.schema + "." + test.name))).body
			for _, link := range regexp.MustCompile(`href="(/views/[^"]*\.csv)"`).FindAllStringSubmatch(page, -1) {
				if got := f.send(get(html.UnescapeString(link[1]))); got.body != fmt.Sprintf("n\r\n%d\r\n", i) {
					t.Errorf("the link %s gives %d: %s", link[1], got.status, got.body)
				}
			}
			if !strings.Contains(page, ".csv\"") {
				t.Error("the page has no link to its CSV")
			}
			if strings.Contains(strings.ToLower(page), "<script>") {
				t.Error("the page has a name unescaped")
			}
		})
	}
}

func TestRowsOfOddValues(t *testing.T) {
	f := newFixture(t)
	f.exec(`create type mood as enum ('fine', 'not "so"')`)
	f.watch("odd", `
		select null::text as "a ""quoted"" <b>", '' as empty, 'x,"y"' || chr(13) || chr(10) || 'z' as text,
		       'NaN'::numeric as nan, '-Infinity'::float8 as low, 9007199254740993 as big, 1.50 as price,
		       true as yes, array[1, null] as list, 'not "so"'::mood as mood, '{"b": [1.0]}'::json as json,
		       '\.' as dot, e'tab\there' as tab`)

	wantCSV := `"a ""quoted"" <b>",empty,text,nan,low,big,price,yes,list,mood,json,dot,tab` + "\r\n" +
		`,"","x,""y""` + "\r\n" + `z",NaN,-Infinity,9007199254740993,1.50,true,"{1,NULL}","not ""so""","{""b"": [1.0]}","\.",tab` + "\there\r\n"
	if got := f.send(get("/matviews/odd.csv")).body; got != wantCSV {
		t.Errorf("CSV:\n%q\nwant\n%q", got, wantCSV)
	}
	wantJSON := `[{"a \"quoted\" <b>":null,"empty":"","text":"x,\"y\"\r\nz","nan":"NaN","low":"-Infinity",` +
		`"big":9007199254740993,"price":1.50,"yes":true,"list":[1,null],"mood":"not \"so\"","json":{"b": [1.0]},` +
		`"dot":"\\.","tab":"tab\there"}]` + "\n"
	got := f.send(get("/matviews/odd.json")).body
	if got != wantJSON || !json.Valid([]byte(got)) {
		t.Errorf("JSON:\n%s\nwant\n%s", got, wantJSON)
	}
	page := f.follow(get("/matviews/odd")).body
	for _, want := range []string{"<i>null</i></td>", "x,&#34;y&#34;", "price</a> <small>numeric</small></th>", "1 row", "&lt;b&gt;"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %s: %s", want, page)
		}
	}

	f.watch("none", "select n as number from generate_series(1, 0) as n")
	for path, want := range map[string]string{
		"/matviews/none.csv": "number\r\n", "/matviews/none.json": "[]\n",
	} {
		if got := f.send(get(path)); got.status != 200 || got.body != want {
			t.Errorf("%s: %d %q", path, got.status, got.body)
		}
	}
	if page := f.follow(get("/matviews/none")).body; !strings.Contains(page, "No rows") {
		t.Errorf("an empty view: %s", page)
	}
	f.watch("columnless", "select from generate_series(1, 2)")
	if got := f.send(get("/matviews/columnless.parquet")); got.status != 422 || !strings.Contains(got.body, "has no columns") {
		t.Errorf("Parquet without columns: %d %s", got.status, got.body)
	}
	if got := f.send(get("/matviews/columnless")).body; got != "[{},\n{}]\n" {
		t.Errorf("rows without columns: %s", got)
	}
}

// Rows that are downloaded as CSV and uploaded again are the same rows with the same types.
func TestRowsGoRoundAsCSV(t *testing.T) {
	f := newFixture(t)
	const file = "id,zip,text,price,day,at,paid,empty\n" +
		"1,007,\"a \"\"b\"\", c\",1.50,2024-01-31,2024-01-31T10:00:00Z,true,\"\"\n" +
		"2,010,,2.25,,2024-02-01T10:00:00.5Z,false,x\n" +
		"3,,\"two\nlines; and\r\nmore\",0.10,2024-02-29,,,\n" +
		"4,999,\"\\.\",-3.75,1999-12-31,2024-02-01T10:00:00Z,true,\" 5\"\n"
	send := func(table, content string) {
		t.Helper()
		if got := f.send(form("POST", "/upload-file?table="+table, field{name: "file", file: "x.csv", value: content})); got.status != 201 {
			t.Fatalf("upload: %d %s", got.status, got.body)
		}
	}
	send("first", file)
	f.watch("copied", "select * from first")
	send("second", f.send(get("/matviews/copied.csv")).body)

	const difference = `
		select count(*)
		  from (
		    (select t::text from first as t except all select t::text from second as t)
		    union all
		    (select t::text from second as t except all select t::text from first as t)
		  ) as different`
	if count := f.number(difference); count != 0 {
		t.Errorf("%d rows differ", count)
	}
	const types = `
		select count(*)
		  from pg_attribute as one
		  join pg_attribute as other using (attname)
		 where one.attrelid = 'first'::regclass and other.attrelid = 'second'::regclass
		   and one.attnum > 0 and one.atttypid = other.atttypid`
	if count := f.number(types); count != 8 {
		t.Errorf("%d columns have the type that they had", count)
	}

	f.watch("nulls", `select n::text as value from unnest(array[null, '', 'x', null]) as n`)
	send("nulls_back", f.send(get("/matviews/nulls.csv")).body)
	if count := f.number(`select count(*) from nulls_back where value is null`); count != 2 {
		t.Errorf("%d nulls come back", count)
	}
	if count := f.number(`select count(*) from nulls_back where value = ''`); count != 1 {
		t.Errorf("%d empty texts come back", count)
	}
}

func TestRowsHaveATagOfTheirRefresh(t *testing.T) {
	f := newFixture(t)
	f.exec("create table numbers as select 1 as n")
	f.watch("v", "select n from numbers")
	f.exec("create unique index on v (n)")

	tags := map[string]bool{}
	ask := func(path, what string) (tag string) {
		t.Helper()
		got := f.send(get(path))
		tag = got.header.Get("ETag")
		if got.status != 200 || tag == "" || got.header.Get("Cache-Control") != "private, no-cache" {
			t.Fatalf("%s: %d %v", what, got.status, got.header)
		}
		if tags[tag] {
			t.Errorf("%s: the tag is one that was there before", what)
		}
		tags[tag] = true
		for _, given := range []string{tag, "W/" + tag, `"x", ` + tag, "*"} {
			again := f.send(withHeader(get(path), "If-None-Match", given))
			if again.status != 304 || again.body != "" || again.header.Get("ETag") != tag {
				t.Errorf("%s, If-None-Match %s: %d %q %v", what, given, again.status, again.body, again.header)
			}
		}
		return tag
	}
	first := ask("/matviews/v.json", "JSON")
	ask("/matviews/v.csv", "CSV")
	ask("/matviews/v.parquet", "Parquet")
	f.refresh("v")
	ask("/matviews/v.json", "a refresh")
	if got := f.send(withHeader(get("/matviews/v.json"), "If-None-Match", first)); got.status != 200 {
		t.Errorf("the old tag: %d", got.status)
	}
	f.exec("insert into numbers values (2)")
	f.exec("refresh materialized view concurrently v")
	ask("/matviews/v.json", "a refresh by hand")
	f.exec("alter materialized view v rename column n to number")
	ask("/matviews/v.json", "another name of a column")
	f.exec(`select tinydevcrm.drop_matview('v')`)
	f.watch("v", "select n from numbers")
	ask("/matviews/v.json", "another view of that name")
}

func TestRowsThatCannotBeGiven(t *testing.T) {
	f := newFixture(t)
	f.exec("create table a_table (n integer)")
	f.exec("create materialized view unwatched as select 1 as n")
	f.exec("create materialized view unfilled as select 1 as n with no data")
	f.exec("select tinydevcrm.watch_matview('unfilled')")

	for _, test := range []struct {
		name, path string
		status     int
		says       []string
	}{
		{"a table", "a_table", 404, []string{"TD001", "a_table is not watched", "watch_matview"}},
		{"one that is not watched", "unwatched", 404, []string{"TD001"}},
		{"one that is not there", "nope.csv", 404, []string{"is not watched"}},
		{"a statement", "v; drop table a_table", 404, []string{"TD001"}},
		{"a name of no sense", `a."b`, 404, []string{"TD001"}},
		{"a name that is none", "a\x00b", 422, []string{"invalid byte sequence"}},
		{"a long name", strings.Repeat("x", 3000), 404, []string{"TD001"}},
		{"one that has not been filled", "unfilled", 409, []string{"has not been populated"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := f.send(get(rowsPath(test.path)))
			page := f.follow(get(rowsPath(test.path)))
			problem := problemOf(t, page.body)
			if got.status != test.status || page.status != test.status {
				t.Errorf("status %d, as a page %d: %s", got.status, page.status, got.body)
			}
			for _, says := range test.says {
				if !strings.Contains(checkError(t, got.body), says) || !strings.Contains(problem, says) {
					t.Errorf("does not say %q: %s\n%s", says, got.body, problem)
				}
			}
			if got.header.Get("ETag") != "" || got.header.Get("Cache-Control") != "no-store" {
				t.Errorf("an error may be kept: %v", got.header)
			}
		})
	}
	if log := f.log.String(); strings.Contains(log, `"ERROR"`) {
		t.Errorf("mistakes of the user are logged as errors: %s", log)
	}
}

func TestManyRows(t *testing.T) {
	f := newFixture(t)
	f.withTimeouts()
	const count = 100_000
	f.watch("many", fmt.Sprintf("select n, repeat('x', 100) as text from generate_series(1, %d) as n", count))

	var before, during runtime.MemStats
	open := func(path string) *http.Response {
		t.Helper()
		answer, err := http.Get(f.server.URL + path)
		if err != nil || answer.StatusCode != 200 {
			t.Fatalf("%s: %v %v", path, answer, err)
		}
		t.Cleanup(func() { answer.Body.Close() })
		return answer
	}

	answer := open("/matviews/many.csv")
	// A slow reader may take longer than the server's timeout.
	buffered := bufio.NewReader(answer.Body)
	for range 4 {
		if _, err := io.CopyN(io.Discard, buffered, 1); err != nil {
			t.Fatal(err)
		}
		time.Sleep(serverTimeout / 2)
	}
	_ = buffered.UnreadByte()
	runtime.GC()
	runtime.ReadMemStats(&before)
	records := csv.NewReader(buffered)
	records.LazyQuotes = true
	records.FieldsPerRecord = -1
	records.ReuseRecord = true
	read := 0
	for ; ; read++ {
		record, err := records.Read()
		if err == io.EOF {
			break
		}
		if err != nil || len(record) != 2 && read > 0 {
			t.Fatalf("row %d: %v %v", read, record, err)
		}
		if read == count/2 {
			runtime.GC()
			runtime.ReadMemStats(&during)
		}
	}
	if read < count {
		t.Errorf("%d rows of %d", read, count)
	}
	if grown := int64(during.HeapAlloc) - int64(before.HeapAlloc); grown > 4<<20 {
		t.Errorf("%d bytes more in the middle of it", grown)
	}

	decoder := json.NewDecoder(open("/matviews/many.json").Body)
	_, _ = decoder.Token()
	read = 0
	for ; decoder.More(); read++ {
		var row struct{ N int }
		if err := decoder.Decode(&row); err != nil || row.N != read+1 {
			t.Fatalf("row %d: %+v %v", read, row, err)
		}
	}
	if read != count {
		t.Errorf("%d objects of %d", read, count)
	}
}

// An interrupted download releases its connection, and does not look complete.
func TestRowsThatBreakOff(t *testing.T) {
	f := newFixture(t)
	f.watch("many", "select n, repeat('x', 1000) as text from generate_series(1, 30000) as n")

	t.Run("by the client", func(t *testing.T) {
		for range 5 {
			answer, err := http.Get(f.server.URL + "/matviews/many.csv")
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.CopyN(io.Discard, answer.Body, 1000)
			answer.Body.Close()
		}
		if got := f.follow(get("/matviews/many")); got.status != 200 {
			t.Errorf("the next one: %d", got.status)
		}
	})
	t.Run("or is slow, and keeps no refresh waiting", func(t *testing.T) {
		answer, err := http.Get(f.server.URL + "/matviews/many.csv")
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		_, _ = io.CopyN(io.Discard, answer.Body, 1000)
		if outcome := f.text(`select outcome from tinydevcrm.refresh_matview('many')`); outcome != "refreshed" {
			t.Errorf("the refresh is %s", outcome)
		}
		if rest, err := io.Copy(io.Discard, answer.Body); err != nil || rest < 30_000_000 {
			t.Errorf("the download ends after %d bytes: %v", rest, err)
		}
	})
	t.Run("by the database", func(t *testing.T) {
		answer, err := http.Get(f.server.URL + "/matviews/many.json")
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		_, _ = io.CopyN(io.Discard, answer.Body, 1000)
		f.exec(`select pg_terminate_backend(pid) from pg_stat_activity
		         where query like 'fetch % from tinydevcrm_rows%' and datname = current_database()`)
		if rest, err := io.ReadAll(answer.Body); err == nil {
			t.Errorf("it ends well, after %d bytes", len(rest))
		}
	})
	f.server.Close()
	if busy := f.pool.Stats().InUse; busy != 0 {
		t.Errorf("%d connections are still in use", busy)
	}
}

func TestRowsOfAFailingView(t *testing.T) {
	f := newFixture(t)
	f.exec("create table numbers as select 1 as n")
	f.watch("v", "select 1 / n as n from numbers")
	f.refresh("v")
	f.exec("update numbers set n = 0")
	f.refresh("v")
	page := f.follow(get("/matviews/v"))
	if page.status != 200 || !strings.Contains(page.body, "division by zero") || !strings.Contains(page.body, `<td class="number">1</td>`) {
		t.Errorf("status %d: %s", page.status, page.body)
	}
}
