package docs_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// httpAPI is the document with a request and the response of each route.
const httpAPI = "orchestrator/docs/HTTP_API.md"

// readAPI reads and checks openapi.json.
func readAPI(t *testing.T) *openapi3.T {
	t.Helper()
	description, err := openapi3.NewLoader().LoadFromFile(filepath.Join(root, "orchestrator/internal/web/openapi.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := description.Validate(context.Background()); err != nil {
		t.Fatal(err)
	}
	return description
}

// A front stands before the program, and wants each request and each answer to be as openapi.json says.
type front struct {
	t *testing.T
	// address is where it listens, program where the program does.
	address, program string
	description      *openapi3.T
	// patterns finds the path of openapi.json that a request is for.
	patterns *http.ServeMux
	mu       sync.Mutex
	// seen are the routes that have answered, with each status.
	seen map[string]map[int]bool
	// last is the last answer that curl got.
	last *http.Response
}

func newFront(t *testing.T) *front {
	t.Helper()
	f := &front{t: t, program: freeAddress(t), description: readAPI(t), patterns: http.NewServeMux(), seen: map[string]map[int]bool{}}
	for path, item := range f.description.Paths.Map() {
		for method := range item.Operations() {
			pattern := method + " " + path
			if path == "/" {
				pattern += "{$}"
			}
			f.patterns.Handle(pattern, http.NotFoundHandler())
		}
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: f.program})
			r.Out.Host = r.In.Host
		},
		FlushInterval:  -1,
		ModifyResponse: f.check,
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("read a request: %v", err)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), sentBody{}, body)))
	}))
	t.Cleanup(server.Close)
	f.address = strings.TrimPrefix(dbtest.ByName(server.URL), "http://")
	return f
}

// sentBody is the key of the body of a request in its context.
type sentBody struct{}

// find returns the route of openapi.json that a request is for.
func (f *front) find(r *http.Request) (*routers.Route, map[string]string) {
	probe := r.Clone(r.Context())
	_, pattern := f.patterns.Handler(probe)
	_, path, _ := strings.Cut(strings.TrimSuffix(pattern, "{$}"), " ")
	item := f.description.Paths.Value(path)
	if item == nil {
		return nil, nil
	}
	// ServeMux sets the values of the path only when it serves.
	parameters := map[string]string{}
	wanted, given := strings.Split(path, "/"), strings.Split(r.URL.EscapedPath(), "/")
	for i, part := range wanted {
		if strings.HasPrefix(part, "{") {
			parameters[strings.Trim(part, "{}")], _ = url.PathUnescape(given[i])
		}
	}
	return &routers.Route{Spec: f.description, Path: path, PathItem: item, Method: r.Method, Operation: item.GetOperation(r.Method)}, parameters
}

// check compares a request and its answer with openapi.json. Streams have no end and are not read.
func (f *front) check(answer *http.Response) error {
	request := answer.Request
	route, parameters := f.find(request)
	if route == nil {
		if answer.StatusCode != http.StatusNotFound && answer.StatusCode != http.StatusMethodNotAllowed {
			f.t.Errorf("%s %s is not in openapi.json", request.Method, request.URL.Path)
		}
		return nil
	}
	what := fmt.Sprintf("%s %s: %d", request.Method, request.URL.RequestURI(), answer.StatusCode)
	f.mu.Lock()
	name := route.Method + " " + route.Path
	if f.seen[name] == nil {
		f.seen[name] = map[int]bool{}
	}
	f.seen[name][answer.StatusCode] = true
	// The program itself fetches a source here.
	if strings.HasPrefix(request.UserAgent(), "curl/") {
		f.last = answer
	}
	f.mu.Unlock()

	sent := request.Context().Value(sentBody{}).([]byte)
	checked := request.Clone(request.Context())
	checked.Body = io.NopCloser(bytes.NewReader(sent))
	input := &openapi3filter.RequestValidationInput{
		Request: checked, PathParams: parameters, Route: route,
		Options: &openapi3filter.Options{
			AuthenticationFunc:    openapi3filter.NoopAuthenticationFunc,
			IncludeResponseStatus: true,
			MultiError:            true,
		},
	}
	if answer.StatusCode < 400 {
		if err := openapi3filter.ValidateRequest(request.Context(), input); err != nil {
			f.t.Errorf("%s: the request is not as openapi.json says: %v", what, err)
		}
		f.checkFields(what, route, request, sent)
	}
	if strings.HasPrefix(answer.Header.Get("Content-Type"), "text/event-stream") {
		return nil
	}
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	answer.Body.Close()
	answer.Body = io.NopCloser(bytes.NewReader(body))
	if err := openapi3filter.ValidateResponse(request.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input, Status: answer.StatusCode, Header: answer.Header,
		Body: io.NopCloser(bytes.NewReader(body)), Options: input.Options,
	}); err != nil {
		f.t.Errorf("%s: the answer is not as openapi.json says: %v", what, err)
	}
	f.record(name, answer, body)
	return nil
}

// checkFields wants each field that a request has to be in openapi.json.
func (f *front) checkFields(what string, route *routers.Route, request *http.Request, sent []byte) {
	known := map[string]bool{}
	know := func(schema *openapi3.Schema) {
		for name := range schema.Properties {
			known[name] = true
		}
	}
	for _, parameter := range route.Operation.Parameters {
		known[parameter.Value.Name] = true
		know(parameter.Value.Schema.Value)
	}
	names := request.URL.Query()
	if strings.HasPrefix(request.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		fields, err := url.ParseQuery(string(sent))
		if err != nil {
			f.t.Errorf("%s: %v", what, err)
		}
		if body := route.Operation.RequestBody; body != nil {
			know(body.Value.Content["application/x-www-form-urlencoded"].Schema.Value)
		}
		for name, values := range fields {
			names[name] = values
		}
	}
	for name := range names {
		if !known[name] {
			f.t.Errorf("%s: openapi.json does not have the field %q", what, name)
		}
	}
}

// record appends the answer to the file that DOCS_RECORD names, from which schemas can be written.
func (f *front) record(name string, answer *http.Response, body []byte) {
	path := os.Getenv("DOCS_RECORD")
	if path == "" {
		return
	}
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		f.t.Fatal(err)
	}
	defer file.Close()
	line, _ := json.Marshal(map[string]any{"route": name, "status": answer.StatusCode, "type": answer.Header.Get("Content-Type"), "body": string(body)})
	fmt.Fprintln(file, string(line))
}

// lastAnswer is the status of the last answer, and a body that curl has printed.
func (f *front) lastAnswer(printed string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.last == nil {
		f.t.Fatal("no request was sent")
	}
	head := fmt.Sprintf("HTTP/1.1 %d %s", f.last.StatusCode, http.StatusText(f.last.StatusCode))
	if !strings.HasPrefix(f.last.Header.Get("Content-Type"), "application/json") {
		return head + "\nContent-Type: " + f.last.Header.Get("Content-Type") + "\n\n" + printed
	}
	return head + "\n\n" + layOut(printed)
}

// layOut breaks long JSON into lines.
func layOut(text string) string {
	var indented bytes.Buffer
	if len(text) <= 120 || json.Indent(&indented, []byte(text), "", "  ") != nil {
		return strings.TrimSpace(text)
	}
	return strings.TrimSpace(indented.String())
}

// checkCoverage wants the document to show each route of openapi.json that is for programs, and each status that
// openapi.json has for it to occur in a test.
func (f *front) checkCoverage() {
	f.t.Helper()
	for path, item := range f.description.Paths.Map() {
		for method, operation := range item.Operations() {
			name := method + " " + path
			isAlias := strings.HasPrefix(operation.Summary, "The same as ")
			if !slices.Contains(operation.Tags, "screens") && !isAlias && !f.has(name, 0) {
				f.t.Errorf("%s has no request of %s", httpAPI, name)
			}
		}
	}
	f.checkRefusals()
	for path, item := range f.description.Paths.Map() {
		for method, operation := range item.Operations() {
			for status := range operation.Responses.Map() {
				name := method + " " + path
				code, err := strconv.Atoi(status)
				if err != nil || slices.Contains(operation.Tags, "screens") || f.has(name, code) || slices.Contains(elsewhere, name+" "+status) {
					continue
				}
				f.t.Errorf("openapi.json has %s: %s, which does not occur", name, status)
			}
		}
	}
}

// has reports whether a route has answered with a status, or with any for 0.
func (f *front) has(name string, status int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen[name][status] || status == 0 && len(f.seen[name]) > 0
}

// elsewhere are answers that other tests make, or that need the link of a letter.
var elsewhere = []string{
	"POST /upload-file 413",    // TestBadInput
	"GET /embed/{matview} 304", // TestWidgetHasATagOfItsRefresh
	"GET /readyz 503",          // TestReadyFollowsTheServer
	"GET /unsubscribe 200",     // TestEmails
	"POST /unsubscribe 200",    // TestEmails
}
