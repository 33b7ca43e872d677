package webhook_test

import (
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/webhook"
)

// A forwarder is a proxy. It counts what it is asked for, and takes every target for server.
type forwarder struct {
	server string
	asked  atomic.Int32
	status int
}

func (f *forwarder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.asked.Add(1)
	if f.status != 0 {
		w.WriteHeader(f.status)
		return
	}
	if r.Method != http.MethodConnect {
		response, err := http.Post("http://"+f.server, r.Header.Get("Content-Type"), r.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		response.Body.Close()
		w.WriteHeader(response.StatusCode)
		return
	}
	to, err := net.Dial("tcp", f.server)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer to.Close()
	from, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer from.Close()
	io.WriteString(from, "HTTP/1.1 200 OK\r\n\r\n")
	go io.Copy(to, from)
	io.Copy(from, to)
}

// through makes a Client of public addresses that uses the proxy.
func through(t *testing.T, f *forwarder) *webhook.Client {
	t.Helper()
	proxy := httptest.NewServer(f)
	t.Cleanup(proxy.Close)
	address, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	client := webhook.NewClient(nil)
	client.UseProxy(http.ProxyURL(address))
	t.Cleanup(client.Close)
	return client
}

// The proxy is at a private address, and reaches public ones for us. What it must not reach, it is not asked for.
func TestProxy(t *testing.T) {
	for _, test := range []struct{ name, url, want string }{
		{"a public address", "http://1.1.1.1/in", ""},
		{"https to a public address", "https://1.1.1.1/in", "tls: "},
		{"a private address", "http://10.0.0.1/in", private},
		{"https to a private address", "https://10.0.0.1/in", private},
		{"a name with a private address", "https://localhost/in", private},
		{"IPv6", "http://[::ffff:127.0.0.1]/in", private},
	} {
		t.Run(test.name, func(t *testing.T) {
			handler, deliveries := record(http.StatusOK)
			f := &forwarder{server: strings.TrimPrefix(serve(t, handler).URL, "http://")}
			err := through(t, f).Send(t.Context(), to(test.url), message)
			switch {
			case test.want == private:
				expectReason(t, err, private)
				if f.asked.Load() != 0 {
					t.Error("the proxy was asked all the same")
				}
				return
			case test.want == "" && err != nil:
				t.Fatal(err)
			case test.want == "":
				receive(t, deliveries)
			// The server behind the proxy speaks no TLS: the tunnel has been built.
			case err == nil || !strings.HasPrefix(err.Error(), test.want):
				t.Errorf("got %v, want %s…", err, test.want)
			}
			if f.asked.Load() != 1 {
				t.Errorf("the proxy was asked %d times, want once", f.asked.Load())
			}
		})
	}
	t.Run("that refuses", func(t *testing.T) {
		f := &forwarder{status: http.StatusProxyAuthRequired}
		err := through(t, f).Send(t.Context(), to("https://1.1.1.1/in"), message)
		expectReason(t, err, "the proxy answers 407 Proxy Authentication Required")
	})
	t.Run("that is not used for this host", func(t *testing.T) {
		handler, deliveries := record(http.StatusOK)
		server := serve(t, handler)
		client := newClient(t)
		client.UseProxy(func(*http.Request) (*url.URL, error) { return nil, nil })
		if err := client.Send(t.Context(), to(server.URL), message); err != nil {
			t.Fatal(err)
		}
		receive(t, deliveries)
		expectReason(t, client.Send(t.Context(), to("http://10.0.0.1/"), message), private)
	})
	t.Run("a redirect to a private address", func(t *testing.T) {
		var asked atomic.Int32
		redirecting := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			w.Header().Set("Location", "http://10.0.0.1/")
			w.WriteHeader(http.StatusTemporaryRedirect)
		})
		proxy := httptest.NewServer(redirecting)
		defer proxy.Close()
		address, err := url.Parse(proxy.URL)
		if err != nil {
			t.Fatal(err)
		}
		client := webhook.NewClient(nil)
		client.UseProxy(http.ProxyURL(address))
		defer client.Close()
		expectReason(t, client.Send(t.Context(), to("http://1.1.1.1/"), message), private)
		if asked.Load() != 1 {
			t.Errorf("the proxy was asked %d times, want once", asked.Load())
		}
	})
}

// trustedURL is set in the process that TestPrivateAuthority starts.
const trustedURL = "TINYDEVCRM_TEST_TRUSTED_URL"

// Go reads the trusted certificates once, so the Client with another SSL_CERT_FILE is in a process of its own.
func TestPrivateAuthority(t *testing.T) {
	if url := os.Getenv(trustedURL); url != "" {
		if err := newClient(t).Send(t.Context(), to(url), message); err != nil {
			t.Fatal(err)
		}
		return
	}
	server := httptest.NewTLSServer(answer(http.StatusOK, ""))
	defer server.Close()
	folder := t.TempDir()
	file := filepath.Join(folder, "ca.pem")
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(file, certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	empty := t.TempDir()
	for _, test := range []struct {
		name, file, folder string
		isTrusted          bool
	}{
		{"neither", filepath.Join(empty, "none.pem"), empty, false},
		{"SSL_CERT_FILE", file, empty, true},
		{"SSL_CERT_DIR", filepath.Join(empty, "none.pem"), folder, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			process := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestPrivateAuthority$")
			process.Env = append(os.Environ(), trustedURL+"="+server.URL, "SSL_CERT_FILE="+test.file, "SSL_CERT_DIR="+test.folder)
			output, err := process.CombinedOutput()
			if isTrusted := err == nil; isTrusted != test.isTrusted {
				t.Errorf("trusted: %t, want %t\n%s", isTrusted, test.isTrusted, output)
			}
			if !test.isTrusted && !strings.Contains(string(output), "certificate") {
				t.Errorf("it fails for another reason:\n%s", output)
			}
		})
	}
}
