package webhook_test

import (
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/webhook"
)

func TestRedirectsThatKeepTheMethod(t *testing.T) {
	for _, status := range []int{307, 308} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			handler, deliveries := record(http.StatusOK)
			last := serve(t, handler)
			middle := serve(t, answer(status, "", "Location", last.URL))
			first := serve(t, answer(status, "", "Location", middle.URL))
			if err := newClient(t).Send(t.Context(), to(first.URL+"/?token=t"), message); err != nil {
				t.Fatal(err)
			}
			got := receive(t, deliveries)
			verify(t, got, secret("the first of two long secrets"))
			if got.method != http.MethodPost {
				t.Errorf("method %s, want POST", got.method)
			}
			if referer := got.header.Get("Referer"); referer != "" {
				t.Errorf("the last server gets the referer %s", referer)
			}
		})
	}
	t.Run("to a private address", func(t *testing.T) {
		server := serve(t, answer(307, "", "Location", "http://10.0.0.1/"))
		expectReason(t, newClient(t).Send(t.Context(), to(server.URL), message), private)
	})
	t.Run("three, and then one more", func(t *testing.T) {
		handler, deliveries := record(http.StatusOK)
		url := serve(t, handler).URL
		for range 3 {
			url = serve(t, answer(307, "", "Location", url)).URL
		}
		if err := newClient(t).Send(t.Context(), to(url), message); err != nil {
			t.Fatal(err)
		}
		receive(t, deliveries)
		url = serve(t, answer(307, "", "Location", url)).URL
		expectReason(t, newClient(t).Send(t.Context(), to(url), message), "more than 3 redirects")
	})
	t.Run("https to http", func(t *testing.T) {
		handler, deliveries := record(http.StatusOK)
		plain := serve(t, handler)
		secure := httptest.NewTLSServer(answer(307, "", "Location", plain.URL))
		defer secure.Close()
		roots := x509.NewCertPool()
		roots.AddCert(secure.Certificate())
		err := newClient(t).WithRoots(roots).Send(t.Context(), to(secure.URL), message)
		expectReason(t, err, "307 Temporary Redirect: the redirect leaves https")
		if len(deliveries) != 0 {
			t.Error("the message went over http")
		}
	})
}

func TestPrivateAddressesAreRefused(t *testing.T) {
	// The server behind the port accepts everything, so that a case fails when its address is allowed.
	server := serve(t, answer(200, ""))
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	client := webhook.NewClient(nil)
	for _, host := range []string{
		"localhost", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "[::]", "169.254.169.254",
		"10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1",
		"255.255.255.255", "[fd00::1]", "[fe80::1]", "[fe80::1%25lo]", "[ff02::1]", "[64:ff9b::7f00:1]",
		"[64:ff9b:1::7f00:1]", "[2001:db8::1]", "[2002:7f00:1::]", "[2001::1]",
	} {
		t.Run(host, func(t *testing.T) {
			endpoint := to("http://" + host + ":" + port)
			expectReason(t, client.Send(t.Context(), endpoint, message), private)
		})
	}
	t.Run("an allowed prefix allows no other", func(t *testing.T) {
		expectReason(t, newClient(t).Send(t.Context(), to("http://10.0.0.1"), message), private)
	})
	t.Run("an allowed prefix of IPv6", func(t *testing.T) {
		listener, err := net.Listen("tcp6", "[::1]:0")
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewUnstartedServer(answer(200, ""))
		server.Listener.Close()
		server.Listener = listener
		server.Start()
		defer server.Close()
		client := webhook.NewClient([]netip.Prefix{netip.MustParsePrefix("::1/128")})
		defer client.Close()
		if err := client.Send(t.Context(), to(server.URL), message); err != nil {
			t.Error(err)
		}
	})
}

func TestBadEndpoints(t *testing.T) {
	handler, deliveries := record(http.StatusOK)
	server := serve(t, handler)
	good := secret("the first of two long secrets")
	const noSecret = "the secret is not whsec_ followed by base64"
	for _, test := range []struct {
		name, url string
		secrets   []string
		want      string
	}{
		{"user and password", "http://u:p@127.0.0.1/", []string{good}, "the URL has a user name or a password"},
		{"user", "http://u@127.0.0.1/", []string{good}, "the URL has a user name or a password"},
		{"ftp", "ftp://127.0.0.1/", []string{good}, "the URL is neither http nor https"},
		{"no scheme", "127.0.0.1/hook", []string{good}, "the URL is neither http nor https"},
		{"nothing", "", []string{good}, "the URL is neither http nor https"},
		{"no host", "http:///hook", []string{good}, "the URL has no host"},
		{"only a port", "http://:80/", []string{good}, "the URL has no host"},
		{"no slashes", "http:127.0.0.1", []string{good}, "the URL has no host"},
		{"garbage", "http://[::1/\x7f%zz", []string{good}, "the URL cannot be parsed"},
		{"a secret without prefix", server.URL, []string{strings.TrimPrefix(good, "whsec_")}, noSecret},
		{"a secret that is not base64", server.URL, []string{"whsec_hush!"}, noSecret},
		{"an empty secret", server.URL, []string{"whsec_"}, noSecret},
		{"a bad secret beside a good one", server.URL, []string{good, "hush"}, noSecret},
	} {
		t.Run(test.name, func(t *testing.T) {
			endpoint := webhook.Endpoint{URL: test.url, Secrets: test.secrets}
			expectReason(t, newClient(t).Send(t.Context(), endpoint, message), test.want)
		})
	}
	if len(deliveries) != 0 {
		t.Error("something was sent")
	}
}
