package main

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"code.dny.dev/ssrf"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// The database refuses the addresses to which the program does not post, and no others.
func TestPrivateAddressesAreTheSameInSQL(t *testing.T) {
	dbtest.SameOnEveryServer(t)
	pool, _ := dbtest.Schema(t)
	isPrivate := func(address netip.Addr) bool {
		return dbtest.Value[bool](t, pool, "select tinydevcrm._is_private_address($1::text::inet)", address.String())
	}
	for _, prefix := range append(ssrf.IPv4DeniedPrefixes, ssrf.IPv6DeniedPrefixes...) {
		first, last := prefix.Masked().Addr(), lastOf(prefix)
		if !isPrivate(first) || !isPrivate(last) {
			t.Errorf("%s is not private", prefix)
		}
		for _, beside := range []netip.Addr{first.Prev(), last.Next()} {
			if beside.IsValid() && isPrivate(beside) != isGuarded(beside) {
				t.Errorf("%s is private: %t", beside, isPrivate(beside))
			}
		}
	}
	for _, address := range []string{"::1", "fe80::1", "fd00::1", "ff02::1", "::ffff:127.0.0.1"} {
		if !isPrivate(netip.MustParseAddr(address)) {
			t.Errorf("%s is not private", address)
		}
	}
}

func isGuarded(address netip.Addr) bool {
	network := "tcp6"
	if address.Is4() {
		network = "tcp4"
	}
	return ssrf.New().Safe(network, netip.AddrPortFrom(address, 443).String(), nil) != nil
}

func lastOf(prefix netip.Prefix) netip.Addr {
	bytes := prefix.Masked().Addr().AsSlice()
	for bit := prefix.Bits(); bit < 8*len(bytes); bit++ {
		bytes[bit/8] |= 0x80 >> (bit % 8)
	}
	last, _ := netip.AddrFromSlice(bytes)
	return last
}

// What the flag allows can be named in a URL, until the program starts without it.
func TestAllowedNetworksAreRecorded(t *testing.T) {
	dbtest.SameOnEveryServer(t)
	t.Parallel()
	_, server := newServer(t)
	create := []string{"webhook", "create", "w", "http://10.1.2.3/in"}
	if _, stderr, err := command(t, server.URL, "", create...); exitCode(err) != exitUsage || !strings.Contains(stderr, "--allow-webhooks-to") {
		t.Errorf("before the start: %v %s", err, stderr)
	}
	_, _, end := begin(t, server.URL, "up", "--listen-addr", "localhost:0", "--allow-webhooks-to", "10.1.0.9/16")
	end()
	mustCommand(t, server.URL, create...)
	_, _, end = begin(t, server.URL, "up", "--listen-addr", "localhost:0")
	end()
	create[2] = "x"
	if _, _, err := command(t, server.URL, "", create...); exitCode(err) != exitUsage {
		t.Errorf("without the flag: %v", err)
	}
}

// The pending event goes to the new URL, signed by the same secret.
func TestAlteredWebhook(t *testing.T) {
	dbtest.SameOnEveryServer(t)
	t.Parallel()
	pool, server := newServer(t)
	old, secret := newWebhook(t, pool, "w", always(http.StatusGone))
	background(t, server.URL, upWithWebhooks...)
	id := refresh(t, pool)
	awaitStatus(t, pool, "w", "switched off")
	next := newReceiver(t, always(http.StatusOK))
	mustCommand(t, server.URL, "webhook", "alter", "w", next.url)
	dbtest.Eventually(t, dbtest.Deadline, "the event arrives at the new URL", func() bool { return next.accepted()[id] == 1 })
	if !isSignedBy(t, next.all()[0], secret) {
		t.Error("it is not signed by the secret")
	}
	if len(old.all()) != 1 {
		t.Errorf("the old endpoint got %d posts, want 1", len(old.all()))
	}
}

// Numbers that JavaScript would round are in a post as text if the webhook is created so.
func TestNumbersAsText(t *testing.T) {
	dbtest.SameOnEveryServer(t)
	t.Parallel()
	pool, server := newServer(t)
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('n', 'select 9007199254740993 as id, 0.10 as amount', 'always')")
	exact, plain := newReceiver(t, always(http.StatusOK)), newReceiver(t, always(http.StatusOK))
	mustCommand(t, server.URL, "webhook", "create", "exact", exact.url, "--numbers-as-text")
	mustCommand(t, server.URL, "webhook", "create", "plain", plain.url)
	mustCommand(t, server.URL, "subscription", "create", "worker", "--numbers-as-text")
	background(t, server.URL, upWithWebhooks...)
	stdout, _ := background(t, server.URL, "subscription", "receive", "worker")
	dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('n')")
	const texts, numbers = `[{"id": "9007199254740993", "amount": "0.10"}]`, `[{"id": 9007199254740993, "amount": 0.10}]`
	for want, r := range map[string]*receiver{texts: exact, numbers: plain} {
		dbtest.Eventually(t, dbtest.Deadline, "the post", func() bool { return len(r.all()) == 1 })
		if body := string(r.all()[0].body); !strings.Contains(body, want) {
			t.Errorf("%s is not in %s", want, body)
		}
	}
	dbtest.Eventually(t, dbtest.Deadline, "the log line", func() bool { return len(stdout.events(t)) == 1 })
	if rows := string(stdout.events(t)[0].Rows); rows != strings.ReplaceAll(texts, " ", "") {
		t.Errorf("the log has %s", rows)
	}
}
