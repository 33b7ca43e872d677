package webhook_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/webhook"
)

// serveHTTP2 starts a server that offers HTTP/2, and returns a Client that trusts it.
func serveHTTP2(t *testing.T, handler http.HandlerFunc) (*httptest.Server, *webhook.Client, *atomic.Int64) {
	t.Helper()
	var opened atomic.Int64
	server := httptest.NewUnstartedServer(handler)
	server.EnableHTTP2 = true
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return server, newClient(t).WithRoots(roots), &opened
}

func of(owner int64, url string) webhook.Endpoint {
	endpoint := to(url)
	endpoint.Owner = owner
	return endpoint
}

func TestHTTP2(t *testing.T) {
	const posts = 50
	server, client, opened := serveHTTP2(t, func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			w.WriteHeader(http.StatusHTTPVersionNotSupported)
		}
	})
	// The first one makes the connection.
	for range 2 {
		var group sync.WaitGroup
		for range posts {
			group.Go(func() {
				if err := client.Send(t.Context(), of(1, server.URL), message); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		opened.CompareAndSwap(opened.Load(), 0)
	}
	if got := opened.Load(); got != 0 {
		t.Errorf("%d connections for posts that follow others", got)
	}
	if err := client.Send(t.Context(), of(2, server.URL), message); err != nil {
		t.Error(err)
	}
	if got := opened.Load(); got != 1 {
		t.Errorf("another owner's post opens %d connections, want 1", got)
	}
}

// An endpoint that does not read what it gets, until all that a connection takes is under way, delays no other owner's
// posts to the same host.
func TestEndpointThatNeverReadsHoldsUpItsOwnerAlone(t *testing.T) {
	const large, posts, within = 1 << 20, 8, 5 * time.Second
	var arrived atomic.Int64
	server, client, _ := serveHTTP2(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hangs" {
			arrived.Add(1)
			<-r.Context().Done()
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
	})
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	body := bytes.Repeat([]byte("x"), large)
	for i := range posts {
		group.Go(func() {
			_ = client.Send(ctx, of(1, server.URL+"/hangs"), webhook.Message{ID: fmt.Sprint("msg_", i), Body: body})
		})
	}
	for end := time.Now().Add(deadline); arrived.Load() < posts; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the posts do not arrive")
		}
	}
	time.Sleep(100 * time.Millisecond) // until the connection takes no more
	soon, stop := context.WithTimeout(t.Context(), within)
	defer stop()
	if err := client.Send(soon, of(2, server.URL+"/reads"), webhook.Message{ID: "msg", Body: body}); err != nil {
		t.Errorf("another owner's post: %v", err)
	}
}

// As many posts as run at once find a connection afterwards.
func TestConnectionsAreKept(t *testing.T) {
	const atOnce, rounds = 64, 5
	var opened atomic.Int64
	var running sync.WaitGroup
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		running.Done()
		running.Wait()
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	client := newClient(t)
	for range rounds {
		running.Add(atOnce)
		var group sync.WaitGroup
		for range atOnce {
			group.Go(func() {
				if err := client.Send(t.Context(), to(server.URL), message); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
	}
	if got := opened.Load(); got > 2*atOnce {
		t.Errorf("%d connections for %d posts at once", got, atOnce)
	}
	if got := client.Open(); got > 2*atOnce {
		t.Errorf("%d connections are open", got)
	}
}
