package web_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/kit"
)

func (f *fixture) embedPath(name string) string {
	return "/embed/" + url.PathEscape(f.schema+"."+name)
}

// asFrame is a request as a browser makes it for a frame.
func asFrame(path string) request { return get(path).fromBrowser() }

func TestWidgetShowsWhatItsOwnerAllows(t *testing.T) {
	f := newFixture(t)
	f.exec("create table numbers (n integer, name text)")
	f.exec("insert into numbers values (5, '<b>'), (6, null)")
	f.watch("v", "select * from numbers")
	path := f.embedPath("v")

	unknown := f.send(asFrame(f.embedPath("nope")))
	for _, ask := range []string{path, "/embed/v", "/embed/" + f.schema, "/embed/a%00b", "/embed/%ff", "/embed/a%22b",
		"/embed/" + strings.Repeat("x", 3000), "/embed/..%2f..%2fetc%2fpasswd"} {
		got := f.send(asFrame(ask))
		if got.status != 404 || got.body != unknown.body {
			t.Errorf("%s: %d: %s", ask, got.status, got.body)
		}
		if !strings.Contains(got.header.Get("Content-Security-Policy"), "frame-ancestors 'none'") ||
			got.header.Get("X-Frame-Options") != "DENY" || got.header.Get("ETag") != "" {
			t.Errorf("%s: the error may be framed or kept: %v", ask, got.header)
		}
	}
	if program := f.send(get(path)); program.status != 404 || !strings.Contains(checkError(t, program.body), "no public view") {
		t.Errorf("a program gets %d %s", program.status, program.body)
	}

	f.exec(`select tinydevcrm.allow_embedding('v', '{https://example.com,http://*.example.com:8000}')`)
	got := f.send(asFrame(path))
	for _, want := range []string{
		`<th scope="col">n</th><th scope="col">name</th>`, `<td>5</td><td>&lt;b&gt;</td>`, `<td>6</td><td><i>null</i></td>`,
		`<title>v</title>`, `<time datetime=`, `<noscript><meta http-equiv="refresh" content="30">`,
	} {
		if got.status != 200 || !strings.Contains(got.body, want) {
			t.Errorf("status %d, the widget lacks %s: %s", got.status, want, got.body)
		}
	}
	policy := got.header.Get("Content-Security-Policy")
	if !strings.HasSuffix(policy, "frame-ancestors https://example.com http://*.example.com:8000") ||
		!strings.HasPrefix(policy, "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self';") {
		t.Errorf("the policy is %s", policy)
	}
	for name, want := range map[string]string{
		"X-Frame-Options": "", "Referrer-Policy": "no-referrer", "Cross-Origin-Resource-Policy": "cross-origin",
		"Cache-Control": "no-cache", "Set-Cookie": "", "X-Content-Type-Options": "nosniff",
		"Access-Control-Allow-Origin": "",
	} {
		if value := got.header.Get(name); value != want {
			t.Errorf("%s is %q, want %q", name, value, want)
		}
	}
	quoted := f.send(asFrame("/embed/" + url.PathEscape(`"`+f.schema+`".v`)))
	if quoted.status != 404 {
		t.Errorf("quoted where there is no need: %d", quoted.status)
	}

	f.exec(`select tinydevcrm.forbid_embedding('v')`)
	if got := f.send(asFrame(path)); got.status != 404 || got.body != unknown.body {
		t.Errorf("forbidden again: %d", got.status)
	}
}

func TestWidgetHasATagOfItsRefresh(t *testing.T) {
	f := newFixture(t)
	f.watch("v", "select 1 as n")
	f.exec(`select tinydevcrm.allow_embedding('v', '{*}')`)

	tags := map[string]bool{}
	ask := func(path, what string) {
		t.Helper()
		got := f.send(asFrame(path))
		tag := got.header.Get("ETag")
		if got.status != 200 || tag == "" || tags[tag] || !strings.Contains(got.body, `data-tag="`+strings.ReplaceAll(tag, `"`, "&#34;")+`"`) {
			t.Errorf("%s: status %d, tag %s: %s", what, got.status, tag, got.body)
		}
		tags[tag] = true
		again := f.send(withHeader(get(path), "If-None-Match", tag))
		if again.status != 304 || again.body != "" || !strings.Contains(again.header.Get("Content-Security-Policy"), "frame-ancestors ") {
			t.Errorf("%s again: %d %v %s", what, again.status, again.header, again.body)
		}
	}
	path := f.embedPath("v")
	ask(path, "at first")
	ask(path+"?as=number", "another look")
	f.refresh("v")
	ask(path, "after a refresh")
	f.exec(`select tinydevcrm.allow_embedding('v', '{https://example.com}')`)
	ask(path, "for another site")
	f.exec(`select tinydevcrm.forbid_embedding('v')`)
	f.exec(`select tinydevcrm.allow_embedding('v', '{https://example.com}')`)
	ask(path, "allowed again")
	f.exec(`alter materialized view v rename to w`)
	ask(f.embedPath("w"), "by another name")
}

func TestWidgetLooksAsAsked(t *testing.T) {
	f := newFixture(t)
	f.exec("create table numbers as select n from generate_series(1, 5000) as n")
	f.watch("v", "select * from numbers")
	f.watch("none", "select * from numbers where false")
	f.watch("nothing", "select null::integer as n")
	f.exec(`select tinydevcrm.allow_embedding(name::regclass, '{*}') from unnest('{v,none,nothing}'::text[]) as name`)

	tests := []struct {
		name, path, query string
		says, saysNot     []string
	}{
		{"a table", "v", "", []string{"<td>100</td>", "and 4,900 more"}, []string{"<td>101</td>", "data-theme", "theme.css"}},
		{"fewer rows", "v", "rows=2", []string{"<td>2</td>", "and 4,998 more"}, []string{"<td>3</td>"}},
		{"a number", "v", "as=number", []string{`aria-live="polite">1</p>`, "<h1>v</h1>"}, []string{"<table", "more"}},
		{"with a label", "v", "as=number&label=<b>Orders+today", []string{"<h1>&lt;b&gt;Orders today</h1>", "<title>&lt;b&gt;Orders today</title>"}, nil},
		{"no number", "none", "as=number", []string{"<i>no rows</i>"}, nil},
		{"null", "nothing", "as=number", []string{"<i>null</i>"}, nil},
		{"no rows", "none", "", []string{`<th scope="col">n</th>`, "<i>no rows</i>"}, []string{"more<"}},
		{"dark", "v", "theme=dark", []string{`data-theme="dark"`}, nil},
		{"colours", "v", "back=fff&accent=AA0000", []string{`href="/theme.css?accent=AA0000&amp;back=fff"`}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := f.send(asFrame(f.embedPath(test.path) + "?" + test.query))
			for _, want := range test.says {
				if got.status != 200 || !strings.Contains(got.body, want) {
					t.Errorf("status %d, it lacks %s: %s", got.status, want, got.body)
				}
			}
			for _, want := range test.saysNot {
				if strings.Contains(got.body, want) {
					t.Errorf("it has %s: %s", want, got.body)
				}
			}
		})
	}

	refused := []struct{ query, says string }{
		{"as=list", "table or number"}, {"theme=blue", "dark or light"}, {"theme=", "dark or light"},
		{"rows=0", "from 1 to 1000"}, {"rows=1001", "from 1 to 1000"}, {"rows=x", "from 1 to 1000"},
		{"back=%23fff", "hexadecimal"}, {"text=red", "hexadecimal"}, {"accent=12345", "hexadecimal"},
		{"back=fff;}*{background:url(//evil.example)", "cannot be read"},
		{"back=fff}*{color:red", "hexadecimal"}, {"label=" + strings.Repeat("x", 201), "200 characters"},
		{"label=%ff", "200 characters"}, {"as=table&as=number", "twice"}, {"utm_source=x", "no parameter"},
		{"%zz", "cannot be read"}, {"<script>=1", "no parameter"},
	}
	for _, test := range refused {
		t.Run("not "+test.query[:min(len(test.query), 40)], func(t *testing.T) {
			got := f.send(asFrame(f.embedPath("v") + "?" + test.query))
			if got.status != 400 || !strings.Contains(got.body, test.says) || strings.Contains(got.body, "<script>") {
				t.Errorf("status %d: %s", got.status, got.body)
			}
			if got.header.Get("ETag") != "" || !strings.HasSuffix(got.header.Get("Content-Security-Policy"), "frame-ancestors *") {
				t.Errorf("who wrote it does not see what is wrong: %v", got.header)
			}
		})
	}
}

func TestThemeHasNothingButColours(t *testing.T) {
	f := newFixture(t)
	for query, want := range map[string]string{
		"":                             ":root:root { }\n",
		"accent=0a0":                   ":root:root { --accent: #00aa00; }\n",
		"back=fdf6e3":                  ":root:root { --back: #fdf6e3; --text: #000000; --strong: #000000; --weak: #000000; --line: #00000040; --accent: #000000; }\n",
		"back=808080":                  ":root:root { --back: #808080; --text: #000000; --strong: #000000; --weak: #000000; --line: #00000040; --accent: #000000; }\n",
		"back=707070":                  ":root:root { --back: #707070; --text: #ffffff; --strong: #ffffff; --weak: #ffffff; --line: #ffffff40; --accent: #ffffff; }\n",
		"text=fff":                     ":root:root { --back: #000000; --text: #ffffff; --strong: #ffffff; --weak: #ffffff; --line: #ffffff40; --accent: #ffffff; }\n",
		"back=000&text=9cf&accent=fff": ":root:root { --back: #000000; --text: #99ccff; --strong: #99ccff; --weak: #99ccff; --line: #99ccff40; --accent: #ffffff; }\n",
	} {
		got := f.send(get("/theme.css?" + query))
		if got.status != 200 || got.body != want || got.header.Get("Content-Type") != "text/css; charset=utf-8" {
			t.Errorf("%s: %d %v: %s", query, got.status, got.header, got.body)
		}
	}
	for _, query := range []string{"theme=dark", "rows=5", "back=red", "back=fff%3B%7D*%7Bcolor%3Ared", "x=1", "label=x"} {
		if got := f.send(get("/theme.css?" + query)); got.status != 400 || !strings.HasPrefix(got.header.Get("Content-Type"), "application/json") {
			t.Errorf("%s: %d: %s", query, got.status, got.body)
		}
	}
}

func TestWidgetOfOddNamesAndRows(t *testing.T) {
	f := newFixture(t)
	for _, name := range []string{`a/b`, `100%`, `Say "hello"`, `a.b`, `é?#`, `<script>alert(1)</script>`} {
		f.watch(name, "select 7 as n")
		f.exec(`select tinydevcrm.allow_embedding(format('%I', $1::text)::regclass, '{*}')`, name)
		quoted := `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
		for _, path := range []string{f.embedPath(name), f.embedPath(quoted)} {
			if got := f.send(asFrame(path)); got.status != 200 || !strings.Contains(got.body, "<td>7</td>") || strings.Contains(got.body, "<script>") {
				t.Errorf("%s: %d: %s", path, got.status, got.body)
			}
		}
	}

	// Whatever users write about their own views affects only how these views are shown.
	f.watch("v", "select 1 as n")
	f.exec(`select tinydevcrm.allow_embedding('v', '{*}')`)
	for _, rows := range []string{`[1, 2]`, `[{"n": 1}]`, `[[1]]`, `["x"]`, `[[["x"]]]`, `[null]`, `[[]]`, `[["<script>", "y", "z"]]`} {
		f.exec(`update tinydevcrm.embeds set rows = $1, columns = '[{"name": 5}, "x"]', version = version + 1
		         where relation = 'v'::regclass`, rows)
		for _, query := range []string{"", "?as=number"} {
			if got := f.send(asFrame(f.embedPath("v") + query)); got.status != 200 || strings.Contains(got.body, "<script>") {
				t.Errorf("%s: %d: %s", rows, got.status, got.body)
			}
		}
	}
	if log := f.log.String(); strings.Contains(log, `"ERROR"`) {
		t.Errorf("mistakes of the user are logged as errors: %s", log)
	}
}

func TestOwnersAllowAndForbidEmbedding(t *testing.T) {
	f := newFixture(t)
	f.watch("Odd view", "select 1 as n")
	relation := `"Odd view"`

	allowed := decode[struct {
		Relation string
		Origins  []string
	}](t, f.send(post("/matviews/embed", "relation", relation, "origins", " https://example.com,\r\nhttps://*.Example.com/ \n")), 200)
	if fmt.Sprint(allowed) != fmt.Sprintf("{%s [https://example.com https://*.example.com]}", relation) {
		t.Errorf("allowed: %+v", allowed)
	}
	if got := f.send(asFrame(f.embedPath("Odd view"))); got.status != 200 {
		t.Errorf("the widget: %d", got.status)
	}
	browser := f.send(post("/matviews/embed", "relation", relation, "origins", "*").fromBrowser())
	if browser.status != 303 || !strings.HasPrefix(browser.header.Get("Location"), "/views/") {
		t.Errorf("a browser is sent to %d %s", browser.status, browser.header.Get("Location"))
	}
	decode[struct{ Relation string }](t, f.send(post("/matviews/unembed", "relation", relation)), 200)
	if got := f.send(asFrame(f.embedPath("Odd view"))); got.status != 404 {
		t.Errorf("the widget that is forbidden: %d", got.status)
	}

	for _, test := range []struct {
		name    string
		request request
		status  int
		says    string
	}{
		{"no origins", post("/matviews/embed", "relation", relation), 400, "is missing or empty"},
		{"only commas", post("/matviews/embed", "relation", relation, "origins", " , "), 422, "these are not origins"},
		{"no origin", post("/matviews/embed", "relation", relation, "origins", "example.com"), 422, "these are not origins: example.com"},
		{"a policy", post("/matviews/embed", "relation", relation, "origins", "https://a.b;script-src*"), 422, "TD007"},
		{"no view", post("/matviews/embed", "relation", "nope", "origins", "*"), 404, "no longer there"},
		{"no view to forbid", post("/matviews/unembed"), 400, "is missing or empty"},
		{"another site's form", withHeader(post("/matviews/embed", "relation", relation, "origins", "*"), "Sec-Fetch-Site", "cross-site"), 403, "another site"},
	} {
		if got := f.send(test.request); got.status != test.status || !strings.Contains(got.body, test.says) {
			t.Errorf("%s: %d %s", test.name, got.status, got.body)
		}
	}
}

func TestWidgetNeedsNoLogin(t *testing.T) {
	f := newFixture(t)
	f.watch("v", "select 1 as n")
	f.exec(`select tinydevcrm.allow_embedding('v', '{*}')`)
	config := f.config()
	config.Login = func(context.Context, string, string, string) (*sql.DB, func(), error) {
		return nil, nil, errors.New("nobody is to log in")
	}
	server := httptest.NewServer(web.Handler(config))
	defer server.Close()

	for path, want := range map[string]int{
		f.embedPath("v"): 200, "/static/embed.js": 200, "/static/embed.css": 200, "/theme.css?back=fff": 200,
		"/": 401, "/matviews": 401, "/matviews/v": 401, "/events": 401, "/embed": 401, "/embed/": 401,
		"/embed/../matviews": 401, "/static/../matviews": 401, "/embed/%2e%2e/matviews": 401,
	} {
		answer, err := http.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, answer.StatusCode, want)
		}
	}
}

func TestEmbeddingForm(t *testing.T) {
	f := newFixture(t)
	f.watch(`Odd "view"`, "select 1 as n")
	formOf := func() string {
		t.Helper()
		page := f.send(get(kit.Path("views", f.schema+`."Odd ""view"""`)).fromBrowser()).body
		_, section, _ := strings.Cut(page, `<section id="embed"`)
		section, _, _ = strings.Cut(section, "</section>")
		return html.UnescapeString(section)
	}
	before := formOf()
	for _, want := range []string{
		`"Odd ""view""""`, "Make it public",
		`allow_embedding('"Odd ""view"""', '{https://example.com}')`,
	} {
		if !strings.Contains(before, want) {
			t.Errorf("the form lacks %s: %s", want, before)
		}
	}
	if strings.Contains(before, "<iframe") {
		t.Errorf("there is nothing to embed yet: %s", before)
	}

	f.exec(`select tinydevcrm.allow_embedding('"Odd ""view"""', '{https://a.example,https://b.example}')`)
	after := formOf()
	address := f.server.URL + f.embedPath(`"Odd ""view"""`)
	for _, want := range []string{
		`<iframe src="` + address + `"`, "https://a.example\nhttps://b.example</textarea>", "Make it private again",
	} {
		if !strings.Contains(after, want) {
			t.Errorf("the form lacks %s: %s", want, after)
		}
	}
}
