package docs_test

import (
	"io"
	"net/http"
	"strings"
)

// refusals are requests for which openapi.json has a status that httpAPI does not show, in its state at the end: table
// sales, view late, subscription accounting. OURS is a URL that needs no other machine.
var refusals = []struct {
	method, path, form string
	status             int
}{
	{"POST", "/tables/rename", "", 400},
	{"POST", "/tables/rename", "relation=none&name=x", 404},
	{"POST", "/tables/rename", "relation=sales&name=late", 409},
	{"POST", "/tables/drop", "", 400},
	{"POST", "/tables/drop", "relation=none", 404},
	{"POST", "/tables/drop", "relation=sales", 409},
	{"GET", "/tables/none.json", "", 404},
	{"GET", "/imports/0", "", 404},
	{"GET", "/imports/0/problems.csv", "", 404},
	{"POST", "/matviews/preview", "query=select+1%3Bselect+2", 422},
	{"POST", "/matviews", "name=x", 400},
	{"POST", "/matviews", "name=x&query=select+*+from+none", 404},
	{"POST", "/matviews", "name=late&query=select+1", 409},
	{"POST", "/matviews", "name=x&query=nonsense", 422},
	{"GET", "/matviews/none.json", "", 404},
	{"GET", "/views/none.json", "", 404},
	{"GET", "/views/late.json", "", 200},
	{"GET", "/views", "", 200},
	{"GET", "/schedules/describe?schedule=never+ever", "", 422},
	{"POST", "/matviews/schedule", "relation=late", 400},
	{"POST", "/matviews/schedule", "relation=none&schedule=hourly", 404},
	{"POST", "/matviews/schedule", "relation=late&schedule=never+ever", 422},
	{"POST", "/matviews/refresh", "", 400},
	{"POST", "/matviews/refresh", "relation=none", 404},
	{"POST", "/matviews/alter", "relation=late", 400},
	{"POST", "/matviews/alter", "relation=none&query=select+1", 404},
	{"POST", "/matviews/alter", "relation=late&query=nonsense", 422},
	{"POST", "/matviews/watch", "", 400},
	{"POST", "/matviews/watch", "relation=none", 404},
	{"POST", "/matviews/watch", "relation=late&notify_when=sometimes", 422},
	{"POST", "/matviews/mute", "relation=late", 400},
	{"POST", "/matviews/mute", "relation=none&mute_for=1+hour", 404},
	{"POST", "/matviews/mute", "relation=late&mute_for=soon", 422},
	{"POST", "/matviews/embed", "relation=none&origins=*", 404},
	{"POST", "/matviews/embed", "relation=late&origins=nonsense", 422},
	{"GET", "/embed/public.none", "", 404},
	{"POST", "/matviews/restore", "", 400},
	{"POST", "/matviews/restore", "name=none", 404},
	{"GET", "/events/0", "", 404},
	{"POST", "/subscriptions", "", 400},
	{"POST", "/subscriptions", "new_subscription=x&new_matview=none", 404},
	{"POST", "/subscriptions", "new_subscription=accounting&url=OURS", 409},
	{"POST", "/subscriptions", "new_subscription=x&url=nonsense", 422},
	{"GET", "/subscriptions/none", "", 404},
	{"POST", "/subscriptions/alter", "subscription=accounting&new_url=nonsense", 422},
	{"POST", "/subscriptions/audience", "subscription=accounting&rules=sometimes", 422},
	{"POST", "/subscriptions/digest", "subscription=accounting&digest=never+ever", 422},
	{"POST", "/subscriptions/preview", "subscription=accounting&title={{", 422},
	{"POST", "/subscriptions/edit", "subscription=accounting&title={{", 422},
	{"POST", "/subscriptions/mute", "subscription=accounting&mute_for=soon", 422},
	{"POST", "/subscriptions/mute", "subscription=none&mute_for=1+hour", 404},
	{"POST", "/subscriptions/replay", "subscription=accounting&replay_for=soon", 422},
	{"POST", "/subscriptions/replay", "subscription=none&replay_for=1+hour", 404},
	{"POST", "/deliveries/redeliver", "", 400},
	{"POST", "/deliveries/redeliver", "delivery=0", 404},
	{"POST", "/sources/check", "", 400},
	{"POST", "/sources/check", "source=x&url=nonsense", 422},
	{"POST", "/sources", "", 400},
	{"POST", "/sources", "source=x&url=nonsense", 422},
	{"POST", "/sources", "source=x&url=OURS", 201},
	{"POST", "/sources", "source=x&url=OURS", 409},
	{"GET", "/sources/none", "", 404},
	{"POST", "/sources/alter", "source=x&url=nonsense", 422},
	{"POST", "/sample", "", 201},
	{"POST", "/upload-file", "n=1", 415},
}

// checkRefusals sends what is refused.
func (f *front) checkRefusals() {
	f.t.Helper()
	for _, test := range refusals {
		f.refuse(test.method, test.path, test.form, test.status)
	}
	// These have one required field, and nothing with that name.
	for path, field := range map[string]string{
		"/matviews/": "pause resume accept unschedule unmute unembed drop", "/sources/": "run pause resume drop alter",
		"/subscriptions/": "alter audience digest preview edit test pause resume unmute drop rotate retry redeliver",
	} {
		name := strings.TrimSuffix(strings.Trim(path, "/"), "s")
		if name == "matview" {
			name = "relation"
		}
		for _, action := range strings.Fields(field) {
			f.refuse("POST", path+action, "", 400)
			f.refuse("POST", path+action, name+"=none", 404)
		}
	}
	f.refuse("POST", "/subscriptions/mute", "", 400)
	f.refuse("POST", "/subscriptions/replay", "", 400)
	for form, status := range map[string]int{
		"Content-Disposition: form-data; name=\"mode\"\r\n\r\nreplace":                                  400,
		"Content-Disposition: form-data; name=\"file\"; filename=\"sales.csv\"\r\n\r\nn\r\n1":           409,
		"Content-Disposition: form-data; name=\"file\"; filename=\"ragged.csv\"\r\n\r\na,b\r\n1,2\r\n3": 422,
	} {
		f.send("POST", "/upload-file", "--x\r\n"+form+"\r\n--x--\r\n", status, "Content-Type", "multipart/form-data; boundary=x")
	}
	f.send("GET", "/matviews/late.json", "", http.StatusNotModified, "If-None-Match", "*")
	f.send("GET", "/views/late.json", "", http.StatusNotModified, "If-None-Match", "*")
}

func (f *front) refuse(method, path, form string, status int) {
	f.t.Helper()
	form = strings.ReplaceAll(form, "OURS", "http://"+f.address+"/tables/public.sales.csv")
	f.send(method, path, form, status, "Content-Type", "application/x-www-form-urlencoded")
}

// send sends a request with a header, and wants a status.
func (f *front) send(method, path, body string, status int, header, value string) {
	f.t.Helper()
	request, err := http.NewRequestWithContext(f.t.Context(), method, "http://"+f.address+path, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	request.Header.Set(header, value)
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		f.t.Fatal(err)
	}
	defer answer.Body.Close()
	found, _ := io.ReadAll(answer.Body)
	if answer.StatusCode != status {
		f.t.Errorf("%s %s with %q: %d, want %d: %s", method, path, body, answer.StatusCode, status, found)
	}
}
