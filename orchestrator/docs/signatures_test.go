package docs_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/webhook"
)

// signatures is the document that verifies posts, in several languages.
const signatures = "orchestrator/docs/SIGNATURES.md"

// A verifier runs the function of a block. caller is what follows it in a file, or is one beside it: it reads posts from
// posts.json, or from the folders of its arguments, and prints true or false for each.
type verifier struct {
	program, file, caller string
	// beside is the name of a file of its own for the caller, of a language that is compiled; empty for none.
	beside string
	run    []string
}

// verifiers are those of signatures, by the language of their block.
var verifiers = map[string]verifier{
	"python": {"python3", "verify.py", `
import json
for post in json.load(open("posts.json", encoding="utf-8")):
    print(str(is_genuine(post["secret"], post["headers"], post["body"].encode())).lower())
`, "", []string{"python3", "verify.py"}},
	"js": {"node", "verify.mjs", `
import { readFileSync } from "node:fs";
for (const post of JSON.parse(readFileSync("posts.json", "utf8")))
  console.log(isGenuine(post.secret, post.headers, Buffer.from(post.body)));
`, "", []string{"node", "verify.mjs"}},
	"go": {"go", "verify.go", `package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"

	"receiver"
)

func main() {
	var posts []struct {
		Secret, Body string
		Headers      map[string]string
	}
	text, _ := os.ReadFile("posts.json")
	if err := json.Unmarshal(text, &posts); err != nil {
		panic(err)
	}
	for _, post := range posts {
		header := http.Header{}
		for name, value := range post.Headers {
			header.Set(name, value)
		}
		fmt.Println(receiver.IsGenuine(post.Secret, header, []byte(post.Body)))
	}
}
`, "caller/main.go", []string{"./verify"}},
	"ruby": {"ruby", "verify.rb", `
require "json"
JSON.parse(File.read("posts.json", encoding: "UTF-8")).each do |post|
  puts genuine?(post["secret"], post["headers"], post["body"])
end
`, "", []string{"ruby", "verify.rb"}},
	"bash": {"openssl", "verify.sh", `
for post in posts/*; do
    cd "$post"
    is_genuine "$(cat secret)" "$(cat webhook-id)" "$(cat webhook-timestamp)" "$(cat webhook-signature)" body 2> complaints &&
        echo true || echo false
    cd ../..
done
`, "", []string{"bash", "verify.sh"}},
}

// A signedPost is a post, as the callers read it.
type signedPost struct {
	name    string
	want    bool
	Secret  string            `json:"secret"`
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body"`
}

// makePosts has the program sign posts, and makes others of them.
func makePosts(t *testing.T) []signedPost {
	t.Helper()
	receiver := newReceiver(t)
	client := webhook.NewClient([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")})
	first := "whsec_" + base64.StdEncoding.EncodeToString([]byte("\x00\xff a key of any bytes \n"))
	second := "whsec_" + base64.StdEncoding.EncodeToString([]byte("that of after a rotation"))
	const body = `{"type": "matview.refreshed", "data": {"rows": [{"customer": "Birch & Söhne 'quoted' \"twice\" \\ 𝄞"}]}}`
	send := func(secrets ...string) map[string]string {
		t.Helper()
		message := webhook.Message{ID: "event_17", Body: []byte(body)}
		if err := client.Send(t.Context(), webhook.Endpoint{URL: receiver.url, Secrets: secrets}, message); err != nil {
			t.Fatal(err)
		}
		header := receiver.take().header
		return map[string]string{
			"webhook-id":        header.Get("webhook-id"),
			"webhook-timestamp": header.Get("webhook-timestamp"),
			"webhook-signature": header.Get("webhook-signature"),
		}
	}
	old := func(age time.Duration) map[string]string {
		at := time.Now().Add(-age)
		signer, err := standardwebhooks.NewWebhook(strings.TrimPrefix(first, "whsec_"))
		if err != nil {
			t.Fatal(err)
		}
		signature, err := signer.Sign("event_17", at, []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		return map[string]string{
			"webhook-id": "event_17", "webhook-timestamp": strconv.FormatInt(at.Unix(), 10), "webhook-signature": signature,
		}
	}
	with := func(headers map[string]string, name, value string) map[string]string {
		headers[name] = value
		return headers
	}
	one := send(first)
	return []signedPost{
		{"a genuine post", true, first, one, body},
		{"one signed by two secrets, the first of which is known", true, first, send(first, second), body},
		{"the second", true, second, send(first, second), body},
		{"another secret", false, second, send(first), body},
		{"another body", false, first, send(first), body + " "},
		{"another id", false, first, with(send(first), "webhook-id", "event_18"), body},
		{"another time", false, first, with(send(first), "webhook-timestamp", strconv.FormatInt(time.Now().Unix()-60, 10)), body},
		{"an old post", false, first, old(10 * time.Minute), body},
		{"one of the future", false, first, old(-10 * time.Minute), body},
		{"one of four minutes ago", true, first, old(4 * time.Minute), body},
		{"no signature", false, first, with(send(first), "webhook-signature", ""), body},
		{"an empty signature, where the secret is empty too", false, "whsec_", with(send(first), "webhook-signature", "v1,"), body},
		{"another version", false, first, with(send(first), "webhook-signature", "v2"+strings.TrimPrefix(one["webhook-signature"], "v1")), body},
		{"a part of one", false, first, with(send(first), "webhook-signature", one["webhook-signature"][:20]), body},
	}
}

// TestSignatures calls the function of each language with genuine, changed and old posts.
func TestSignatures(t *testing.T) {
	dbtest.SameOnEveryServer(t)
	ran := map[string]bool{}
	for _, b := range readBlocks(t, signatures) {
		v, isKnown := verifiers[b.language]
		if !isKnown {
			t.Errorf("%s: no test runs %q", b, b.language)
			continue
		}
		ran[b.language] = true
		t.Run(b.language, func(t *testing.T) {
			if _, err := exec.LookPath(v.program); err != nil {
				t.Skipf("not run: %s: this machine has no %s", t.Name(), v.program)
			}
			t.Parallel()
			v.verify(t, b.text, makePosts(t))
		})
	}
	if len(ran) != len(verifiers) || len(ran) < 5 {
		t.Errorf("the languages are %v", ran)
	}
}

func (v verifier) verify(t *testing.T, code string, posts []signedPost) {
	t.Helper()
	folder := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if v.beside == "" {
		write(v.file, code+v.caller)
	} else {
		write("go.mod", "module receiver\n\ngo 1.24\n")
		write(v.file, code)
		write(v.beside, v.caller)
		build := exec.Command("go", "build", "-o", "verify", "./caller")
		build.Dir = folder
		if output, err := build.CombinedOutput(); err != nil {
			t.Fatalf("go build: %v\n%s", err, output)
		}
	}
	for i, post := range posts {
		place := filepath.Join("posts", fmt.Sprintf("%02d", i))
		write(filepath.Join(place, "secret"), post.Secret)
		write(filepath.Join(place, "body"), post.Body)
		for name, value := range post.Headers {
			write(filepath.Join(place, name), value)
		}
	}
	text, err := json.Marshal(posts)
	if err != nil {
		t.Fatal(err)
	}
	write("posts.json", string(text))
	command := exec.Command(v.run[0], v.run[1:]...)
	command.Dir = folder
	output, err := command.CombinedOutput()
	found := strings.Fields(string(output))
	if err != nil || len(found) != len(posts) {
		t.Fatalf("%v\n%s", err, output)
	}
	for i, post := range posts {
		if found[i] != strconv.FormatBool(post.want) {
			t.Errorf("%s: %s, want %t", post.name, found[i], post.want)
		}
	}
}
