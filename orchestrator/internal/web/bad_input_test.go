package web_test

import (
	"encoding/json"
	"html"
	"net/http"
	"strings"
	"testing"
)

// A refusal is a request that is answered with an error.
type refusal struct {
	name    string
	request request
	status  int
	says    []string
	// keeps is the user's input, as the page contains it.
	keeps []string
}

// checkRefusals sends each request as a program and as a browser sends it. Both get the same message, and nothing is left behind.
func (f *fixture) checkRefusals(t *testing.T, refusals []refusal) {
	const relations = `
		select count(*)
		  from pg_class
		 where relnamespace = $1::text::regnamespace`
	before := f.number(relations, f.schema)
	// A browser that keeps cookies.
	f.send(get("/upload").fromBrowser())

	for _, test := range refusals {
		t.Run(test.name, func(t *testing.T) {
			for _, request := range []request{test.request, test.request.fromBrowser()} {
				got := f.send(request)
				if request.isBrowser && got.status == http.StatusSeeOther {
					// The page of the form shows the error.
					got = f.send(get(pathOf(got)).fromBrowser())
				} else if got.status != test.status {
					t.Errorf("status %d, want %d: %s", got.status, test.status, got.body)
				}
				text := got.body
				if request.isBrowser {
					text = html.UnescapeString(problemOf(t, got.body))
					for _, kept := range test.keeps {
						if !strings.Contains(got.body, kept) {
							t.Errorf("the page does not keep %s", kept)
						}
					}
				} else {
					text = checkError(t, text)
				}
				for _, said := range test.says {
					if !strings.Contains(text, said) {
						t.Errorf("does not say %q: %s", said, text)
					}
				}
			}
			if left := f.number(relations, f.schema); left != before {
				t.Errorf("%d relations, there were %d", left, before)
			}
		})
	}
	if log := f.log.String(); strings.Contains(log, `"ERROR"`) {
		t.Errorf("mistakes of the user are logged as errors: %s", log)
	}
}

func TestBadInput(t *testing.T) {
	const sample = "n\n1\n2\n"
	sampleFile := field{name: "file", file: "new.csv", value: sample}

	tests := []refusal{
		{"no file was chosen",
			form("POST", "/upload-file", field{name: "table", value: "kept"}, field{name: "mode", value: "append"}, field{name: "file"}),
			400, []string{"no file was chosen", "curl -F file=@"},
			[]string{`value="kept"`, `<option value="append" selected>`}},
		{"no field file", form("POST", "/upload-file", field{name: "data", value: "x"}),
			400, []string{`no field "file"`}, nil},
		{"a value instead of a file", request{method: "POST", path: "/upload-file",
			contentType: "multipart/form-data; boundary=x",
			body:        "--x\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nnew.csv\r\n--x--\r\n"},
			400, []string{"no file was chosen"}, nil},
		{"no multipart form", post("/upload-file", "file", "x"),
			415, []string{"not a multipart form"}, nil},
		{"no boundary", request{method: "POST", path: "/upload-file", contentType: "multipart/form-data"},
			400, []string{"cannot be read"}, nil},
		{"no parts", request{method: "POST", path: "/upload-file", contentType: "multipart/form-data; boundary=x"},
			400, []string{`no field "file"`}, nil},
		{"a form that breaks off", request{method: "POST", path: "/upload-file",
			contentType: "multipart/form-data; boundary=x",
			body:        "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"new.csv\"\r\n\r\nn\n1\n2\n"},
			400, []string{"ended before"}, nil},
		{"an empty file", form("POST", "/upload-file", field{name: "file", file: "new.csv"}),
			422, []string{"the file is empty", "TD005"}, nil},
		{"a binary file", form("POST", "/upload-file", field{name: "file", file: "new.csv", value: "\x00\x01\x02"}),
			422, []string{"not text", "TD005"}, nil},
		{"a line with too many cells", form("POST", "/upload-file", field{name: "file", file: "new.csv", value: "a,b\n1,2\n1,2,3\n"}),
			422, []string{"3 fields instead of 2"}, nil},
		{"a quote that does not close", form("POST", "/upload-file", field{name: "file", file: "new.csv", value: "a\n1\n\"x\n2\n"}),
			422, []string{"quote on line 3 does not close", "TD005"}, nil},
		{"an option that is none", form("POST", "/upload-file?delimeter=x", sampleFile),
			422, []string{"no option", "delimeter", "TD007"}, nil},
		{"a type that is none", form("POST", "/upload-file", field{name: "type", value: "n=nope"}, sampleFile),
			422, []string{"no type", "nope", "TD007"}, []string{`value="n=nope"`}},
		{"a value that does not fit the type it is given", form("POST", "/upload-file", field{name: "type", value: "n=date"}, sampleFile),
			422, []string{"cannot be read as date", "line 2, column n"}, nil},
		{"a key without upsert", form("POST", "/upload-file", field{name: "key", value: "n"}, sampleFile),
			422, []string{"takes no key", "TD007"}, nil},
		{"a preview of a broken file", form("POST", "/upload-file?dry_run=1", field{name: "file", file: "new.csv", value: "a,b\n1,2\n1,2,3\n"}),
			422, []string{"3 fields instead of 2", "TD005"}, nil},
		{"a preview of no file", form("POST", "/upload-file?dry_run=1", field{name: "file"}),
			400, []string{"no file was chosen"}, nil},
		{"an unknown mode", form("POST", "/upload-file", field{name: "mode", value: "upsert!"}, sampleFile),
			422, []string{"no import mode", "TD007"}, nil},
		{"a table's name that is too long", form("POST", "/upload-file?table="+strings.Repeat("x", 64), sampleFile),
			422, []string{"TD007"}, []string{strings.Repeat("x", 64)}},
		{"a field that is too long", form("POST", "/upload-file", field{name: "table", value: strings.Repeat("x", 5000)}, sampleFile),
			413, []string{"longer than"}, nil},
		{"a table that is there already", form("POST", "/upload-file", field{name: "table", value: "taken"}, sampleFile),
			409, []string{"is there already", "TD004"}, []string{`value="taken"`}},
		{"a mode after the file", form("POST", "/upload-file", sampleFile, field{name: "mode", value: "append"}),
			400, []string{"comes after the file", "/upload-file?mode="}, nil},
		{"two files of other columns", form("POST", "/upload-file", sampleFile, field{name: "file", file: "other.csv", value: "m\n1\n"}),
			422, []string{"other.csv has other columns", "TD006"}, nil},
		{"a field between two files", form("POST", "/upload-file", sampleFile, field{name: "mode", value: "append"}, sampleFile),
			400, []string{"comes after the file"}, nil},
		{"a file that is too large", form("POST", "/upload-file",
			field{name: "file", file: "new.csv", value: "n\n" + strings.Repeat("1234567\n", maxUpload/8)}),
			413, []string{"larger than 1048576 bytes"}, nil},

		{"a view without a name", post("/matviews", "query", "select 1 as kept"),
			400, []string{`"name" is missing`}, []string{"select 1 as kept"}},
		{"a view without a query", post("/matviews", "name", "kept_name"),
			400, []string{`"query" is missing`}, []string{`value="kept_name"`}},
		{"two statements", post("/matviews", "name", "v", "query", "select 1; drop table taken"),
			422, []string{"exactly one query", "TD002"}, []string{"drop table taken"}},
		{"no query", post("/matviews", "name", "v", "query", "drop table taken"),
			422, []string{"exactly one query"}, nil},
		{"a query with an error", post("/matviews", "name", "v", "query", "select <b>1 from taken"),
			422, []string{"syntax error", "LINE 1: select "}, []string{"select &lt;b&gt;1 from taken"}},
		{"a long query with an error", post("/matviews", "name", "v", "query", "select 1 from missing /* kept "+strings.Repeat("x", 40000)+" */"),
			404, []string{`relation "missing" does not exist`}, []string{"kept"}},
		{"a query on a missing table", post("/matviews", "name", "v", "query", "select * from missing"),
			404, []string{`relation "missing" does not exist`, "LINE 1: select * from missing"}, nil},
		{"a query that fails as it runs", post("/matviews", "name", "v", "query", "select 1 / (n - 1) from taken"),
			422, []string{"division by zero"}, nil},
		{"a name in use", post("/matviews", "name", "taken_view", "query", "select 1"),
			409, []string{"TD004"}, nil},
		{"an unknown rule", post("/matviews", "name", "v", "query", "select 1", "notify_when", "sometimes"),
			422, []string{"TD007"}, nil},
		{"a byte of value 0", post("/matviews", "name", "v", "query", "select '\x00'"),
			422, []string{"invalid byte sequence"}, nil},
		{"JSON instead of a form", request{method: "POST", path: "/matviews", contentType: "application/json", body: `{"name":"v"}`},
			415, []string{"not a form"}, nil},
		{"a form that is too large", post("/matviews", "name", "v", "query", strings.Repeat(" ", 2<<20)),
			413, []string{"larger than"}, nil},
		{"a form that cannot be read", request{method: "POST", path: "/matviews",
			contentType: "application/x-www-form-urlencoded", body: "name=%zz"},
			400, []string{"cannot be read"}, nil},

		{"no view to schedule", post("/matviews/schedule", "schedule", "5 seconds"),
			400, []string{`"relation" is missing`}, nil},
		{"a schedule that is not supported", post("/matviews/schedule", "relation", "taken_view", "schedule", "61 seconds"),
			422, []string{"61 seconds", "TD003", "1 minute"}, []string{`value="61 seconds"`}},
		{"half a schedule", post("/matviews/schedule", "relation", "taken_view", "schedule", "* * *"),
			422, []string{"TD003"}, []string{`value="* * *"`}},
		{"a schedule of nothing", post("/matviews/schedule", "relation", "taken_view", "schedule", ""),
			400, []string{`"schedule" is missing`}, nil},
		{"a missing view to schedule", post("/matviews/schedule", "relation", "missing", "schedule", "5 seconds"),
			404, []string{"missing"}, nil},
		{"a table to schedule", post("/matviews/schedule", "relation", "taken", "schedule", "5 seconds"),
			404, []string{"is not watched", "TD001"}, nil},
		{"a name that is none", post("/matviews/refresh", "relation", "a.b.c.d.e"),
			422, []string{"a.b.c.d.e"}, nil},
		{"a missing view to refresh", post("/matviews/refresh", "relation", "missing"),
			404, []string{"missing"}, nil},
		{"a missing view to unschedule", post("/matviews/unschedule", "relation", "missing"),
			404, []string{"missing"}, nil},
		{"a missing view to drop", post("/matviews/drop", "relation", "missing; drop table taken"),
			422, nil, nil},
		{"a table to drop", post("/matviews/drop", "relation", "taken"),
			404, []string{"is not watched"}, nil},
	}

	f := newFixture(t)
	f.exec("create table taken (n integer)")
	f.exec("insert into taken values (1)")
	f.exec("select tinydevcrm.create_matview('taken_view', 'select * from taken')")
	f.checkRefusals(t, tests)

	if left := f.number("select count(*) from tinydevcrm.imports where schema_name = $1", f.schema); left != 0 {
		t.Errorf("%d imports are on record", left)
	}
}

// problemOf cuts the error out of a page.
func problemOf(t *testing.T, page string) string {
	t.Helper()
	_, rest, isThere := strings.Cut(page, `<div class="problem"`)
	if !isThere {
		t.Fatalf("the page shows no error: %s", page)
	}
	// It may contain a table of lines, in a div of its own. What follows it is a form or the next section.
	problem, _, _ := strings.Cut(rest, "<form")
	return problem
}

// checkError checks the shape of an error for a program, and returns its text.
func checkError(t *testing.T, body string) string {
	t.Helper()
	var answer struct {
		Error struct{ Code, Message, Detail, Hint string }
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		t.Fatalf("the error is not JSON: %v: %s", err, body)
	}
	if answer.Error.Message == "" {
		t.Errorf("the error has no message: %s", body)
	}
	parts := answer.Error
	return strings.Join([]string{parts.Message, parts.Detail, parts.Hint, parts.Code}, "\n")
}

func TestRefusedRequests(t *testing.T) {
	tests := []struct {
		name    string
		request request
		status  int
	}{
		{"upload by GET", get("/upload-file"), http.StatusMethodNotAllowed},
		{"an unknown path", get("/nowhere"), http.StatusNotFound},
		{"an unknown asset", get("/static/page.html"), http.StatusNotFound},
		{"the folder of assets", get("/static/"), http.StatusNotFound},
		{"a form of another site", withHeader(post("/matviews", "name", "v", "query", "select 1"),
			"Sec-Fetch-Site", "cross-site"), http.StatusForbidden},
		{"a form of another origin", withHeader(post("/matviews", "name", "v", "query", "select 1"),
			"Origin", "https://example.com"), http.StatusForbidden},
		{"another name for this machine", withHeader(get("/"), "Host", "attacker.example.com:5000"),
			http.StatusMisdirectedRequest},
		{"localhost", withHeader(get("/"), "Host", "localhost:5000"), http.StatusOK},
		{"a name below localhost", withHeader(get("/"), "Host", "crm.localhost"), http.StatusOK},
		{"an address", withHeader(get("/"), "Host", "[::1]:5000"), http.StatusOK},
		{"a name without a dot", withHeader(get("/"), "Host", "orchestrator:5000"), http.StatusOK},
	}

	f := newFixture(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := f.send(test.request)
			if got.status != test.status {
				t.Errorf("status %d, want %d: %s", got.status, test.status, got.body)
			}
			if got.header.Get("Content-Security-Policy") == "" || got.header.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("the answer lacks the security headers: %v", got.header)
			}
		})
	}
	if left := f.number("select count(*) from pg_class where relnamespace = $1::text::regnamespace", f.schema); left != 0 {
		t.Errorf("a refused request made %d relations", left)
	}
}

func withHeader(request request, name, value string) request {
	request.header = map[string]string{name: value}
	return request
}
