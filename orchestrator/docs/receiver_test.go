package docs_test

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// A receiver keeps the posts to an endpoint.
type receiver struct {
	url   string
	mu    sync.Mutex
	posts []post
}

type post struct {
	header http.Header
	body   []byte
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(request.Body)
		if err != nil {
			t.Errorf("receive: %v", err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.posts = append(r.posts, post{request.Header, body})
	}))
	t.Cleanup(server.Close)
	r.url = dbtest.ByName(server.URL)
	return r
}

// take takes the oldest post; nil for none yet.
func (r *receiver) take() *post {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.posts) == 0 {
		return nil
	}
	first := r.posts[0]
	r.posts = r.posts[1:]
	return &first
}

func (r *receiver) next() []byte {
	if found := r.take(); found != nil {
		return found.body
	}
	return nil
}

// shown are the texts of a message to Slack, as it shows them.
func shown(body []byte) string {
	var sent struct {
		Text        string
		Attachments []any
	}
	if err := json.Unmarshal(body, &sent); err != nil {
		return string(body)
	}
	texts := []string{strings.ReplaceAll(sent.Text, "&amp;", "&")}
	var walk func(any)
	walk = func(part any) {
		switch part := part.(type) {
		case []any:
			for _, each := range part {
				walk(each)
			}
		case map[string]any:
			if text, isText := part["text"].(string); isText {
				texts = append(texts, text)
			}
			walk(part["blocks"])
			walk(part["elements"])
		}
	}
	walk(sent.Attachments)
	return strings.Join(texts, "\n")
}

// freeAddress is an address of this machine that nothing listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}
