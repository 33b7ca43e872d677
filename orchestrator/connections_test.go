package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"database/sql"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/login"
)

// Beside a pooler in transaction mode, LISTEN_URL is all that is missing: migrations, and notifications that arrive.
func TestListenURLBesideAPooler(t *testing.T) {
	dbtest.SameOnEveryServer(t)
	t.Parallel()
	server := dbtest.NewServer(t)
	pooled := server.Pooler()
	stdout, stderr := background(t, pooled, "up", "--listen-addr", "localhost:0", "--listen-url", server.URL)
	pageOf(t, stderr)
	pool := openPool(t, server.URL)
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select 1 as one', 'always')")
	for range 3 {
		id := refresh(t, pool)
		// Without notifications the log looks every ten seconds.
		dbtest.Eventually(t, 5*time.Second, "the event is in the log", func() bool { return hasEvent(stdout.events(t), id) })
	}
	dbtest.Eventually(t, dbtest.Deadline, "the probe has arrived", func() bool {
		return dbtest.Value[bool](t, pool, "select exists (select from tinydevcrm.listeners where not is_deaf)")
	})
	if strings.Contains(stderr.String(), "do not arrive") {
		t.Errorf("the listener is deaf: %s", stderr)
	}
	if direct := dbtest.Value[string](t, pool, `
		select string_agg(distinct case when query ilike 'listen %' then 'listener' else 'watchdog' end, ', ')
		  from pg_stat_activity
		 where query ilike 'listen %' or query like 'execute tinydevcrm_watchdog%'`); direct != "listener, watchdog" {
		t.Errorf("directly connected: %s", direct)
	}
}

// A password that expires is found anew for each connection: by a command, or in the password file of libpq.
func TestPasswordsThatExpire(t *testing.T) {
	dbtest.SameOnEveryServer(t)
	for _, test := range []struct {
		name, line string
		args       func(file string) (query string, flags []string)
	}{
		{"a command", "%s\n", func(file string) (string, []string) {
			return "", []string{"--password-command", "cat " + file}
		}},
		{"a file", "*:*:*:*:%s\n", func(file string) (string, []string) {
			return "&passfile=" + url.QueryEscape(file), nil
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			super, server := newServer(t)
			address := server.ListenOn("scram-sha-256")
			file := filepath.Join(t.TempDir(), "password")
			rotate := func(password string) {
				if err := os.WriteFile(file, fmt.Appendf(nil, test.line, password), 0o600); err != nil {
					t.Fatal(err)
				}
				dbtest.Exec(t, super, fmt.Sprintf("alter role postgres password '%s'", strings.ReplaceAll(password, "'", "''")))
			}
			dbtest.Eventually(t, dbtest.Deadline, "the server is back", func() bool { return super.Ping() == nil })
			rotate("one & ' = +")
			query, flags := test.args(file)
			stdout, stderr := background(t, "postgres://postgres@"+address+"/tinydevcrm?sslmode=disable"+query,
				append([]string{"up", "--listen-addr", "localhost:0"}, flags...)...)
			page := &site{t: t, url: pageOf(t, stderr), super: super}

			rotate("two")
			dbtest.Exec(t, super, "select pg_terminate_backend(pid) from pg_stat_activity where client_addr is not null")
			dbtest.Eventually(t, dbtest.Deadline, "it listens again", func() bool {
				return strings.Contains(stderr.String(), "listening again")
			})
			dbtest.Eventually(t, dbtest.Deadline, "the page works", func() bool {
				status, _ := page.upload("", fmt.Sprintf("?table=t%d", time.Now().UnixNano()), "n\n1\n")
				return status == http.StatusCreated
			})
			id := refresh(t, super)
			dbtest.Eventually(t, dbtest.Deadline, "the event is in the log", func() bool { return hasEvent(stdout.events(t), id) })
			if log := stderr.String(); strings.Contains(log, "one &") || strings.Contains(log, "two") {
				t.Errorf("the log has a password: %s", log)
			}
		})
	}
	if _, stderr, err := command(t, "postgres://localhost/x", "", "status", "--password-command", "echo no token >&2; exit 3"); err == nil ||
		!strings.Contains(stderr, "password command") || !strings.Contains(stderr, "no token") {
		t.Errorf("a command that fails: %v %s", err, stderr)
	}
	if _, stderr, err := command(t, "postgres://localhost/x", "", "status", "--password-command", "true"); err == nil ||
		!strings.Contains(stderr, "printed no password") {
		t.Errorf("a command that prints nothing: %v %s", err, stderr)
	}
}

// When the first of two servers becomes read-only, everything goes on at the other, even if no connection is cut.
func TestFailover(t *testing.T) {
	dbtest.SameOnEveryServer(t)
	t.Run("connections are cut", func(t *testing.T) { checkFailover(t, true) })
	t.Run("connections stay", func(t *testing.T) { checkFailover(t, false) })
}

func checkFailover(t *testing.T, areCut bool) {
	t.Parallel()
	first, one := newServer(t)
	second, two := newServer(t)
	host := func(s *dbtest.Server) string {
		parsed, err := url.Parse(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		return parsed.Query().Get("host")
	}
	both := "postgres:///tinydevcrm?user=postgres&sslmode=disable&target_session_attrs=read-write&port=5432,5432&host=" +
		url.QueryEscape(host(one)+","+host(two))
	dbtest.Exec(t, second, "select tinydevcrm.create_subscription('log')")
	stdout, stderr := background(t, both, "up", "--listen-addr", "localhost:0")
	page := &site{t: t, url: pageOf(t, stderr), super: first}
	if status, body := page.upload("", "?table=before", "n\n1\n"); status != http.StatusCreated {
		t.Fatalf("upload: %d %s", status, body)
	}
	if !dbtest.Value[bool](t, first, "select to_regclass('before') is not null") {
		t.Fatal("the upload is not at the first server")
	}

	dbtest.Exec(t, first, "alter system set default_transaction_read_only = on")
	dbtest.Exec(t, first, "select pg_reload_conf()")
	dbtest.Eventually(t, dbtest.Deadline, "the first server is read-only", func() bool {
		return dbtest.Value[string](t, first, "show default_transaction_read_only") == "on"
	})
	// The listening connection is probed each minute.
	listensWithin := 3 * dbtest.Deadline
	if areCut {
		listensWithin = dbtest.Deadline
		dbtest.Exec(t, first, "select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()")
	}
	dbtest.Eventually(t, dbtest.Deadline, "an upload goes to the other server", func() bool {
		page.upload("", "?table=after", "n\n1\n")
		return dbtest.Value[bool](t, second, "select to_regclass('after') is not null")
	})
	dbtest.Eventually(t, listensWithin, "the program listens there", func() bool {
		return dbtest.Value[bool](t, second, "select exists (select from pg_stat_activity where query ilike 'listen %matview_refresh_channel%')")
	})
	if left := dbtest.Value[int](t, first, "select count(*) from pg_stat_activity where query ilike 'listen %matview_refresh_channel%'"); left != 0 {
		t.Errorf("%d connections still listen at the first server", left)
	}
	for range 3 {
		id := refresh(t, second)
		// Without notifications the log looks every ten seconds.
		dbtest.Eventually(t, 5*time.Second, "its events are in the log at once", func() bool { return hasEvent(stdout.events(t), id) })
	}
	if strings.Contains(stderr.String(), "do not arrive") {
		t.Errorf("it takes itself for deaf: %s", stderr)
	}
}

// Pool and listener trust a server by the certificate that sslrootcert names, and no other.
func TestServersAreTrustedByTheirCertificate(t *testing.T) {
	dbtest.SameOnEveryServer(t)
	t.Parallel()
	super, server := newServer(t)
	address := server.ListenOn("trust")
	folder := t.TempDir()
	own, key := certificate(t, address)
	other, _ := certificate(t, address)
	server.Write("server.crt", own)
	server.Write("server.key", key)
	server.Set("ssl", "on")
	server.Restart()
	at := func(certificate []byte, name string) string {
		file := filepath.Join(folder, name)
		if err := os.WriteFile(file, certificate, 0o600); err != nil {
			t.Fatal(err)
		}
		return "postgres://postgres@" + address + "/tinydevcrm?sslmode=verify-full&sslrootcert=" + url.QueryEscape(file)
	}
	if _, stderr, err := command(t, at(other, "other.crt"), "", "status"); err == nil || !strings.Contains(stderr, "certificate") {
		t.Errorf("with another certificate: %v %s", err, stderr)
	}
	stdout, stderr := background(t, at(own, "own.crt"), "up", "--listen-addr", "localhost:0")
	pageOf(t, stderr)
	dbtest.Eventually(t, dbtest.Deadline, "the server is back", func() bool { return super.Ping() == nil })
	id := refresh(t, super)
	dbtest.Eventually(t, 5*time.Second, "the event is in the log", func() bool { return hasEvent(stdout.events(t), id) })
	if plain := dbtest.Value[int](t, super, `
		select count(*) from pg_stat_activity join pg_stat_ssl using (pid) where client_addr is not null and not ssl`); plain != 0 {
		t.Errorf("%d connections are without TLS", plain)
	}
}

// certificate is one of a server that has signed it itself.
func certificate(t *testing.T, address string) (certificate, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.ParseIP(address)},
	}
	signed, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
}

// Where a role may have few connections, everything works with so many.
func TestFewConnections(t *testing.T) {
	dbtest.SameOnEveryServer(t)
	t.Parallel()
	super, server := newServer(t)
	const few = 12
	dbtest.Exec(t, super, fmt.Sprintf("create role runner login in role tinydevcrm_orchestrator connection limit %d", few))
	dbtest.Exec(t, super, "grant create on schema public to runner")
	runner := dbtest.AsRole(server.URL, "runner")
	if _, stderr, err := command(t, runner, "", "up", "--max-connections", fmt.Sprint(few-1)); err == nil || !strings.Contains(stderr, "from 12 on") {
		t.Errorf("with fewer: %v %s", err, stderr)
	}
	stdout, stderr := background(t, runner, append(upWithWebhooks, "--max-connections", fmt.Sprint(few))...)
	page := &site{t: t, url: pageOf(t, stderr), super: super}
	received, _ := newWebhook(t, super, "w", always(http.StatusOK))
	most := watchConnections(t, super)

	var group sync.WaitGroup
	for i := range 12 {
		group.Go(func() {
			for j := range 4 {
				if status, body := page.upload("", fmt.Sprintf("?table=t%d_%d", i, j), "n\n1\n"); status != http.StatusCreated && status != http.StatusServiceUnavailable {
					t.Errorf("upload: %d %s", status, body)
				}
				for _, path := range []string{"/", "/readyz"} {
					if status, body := page.get("", path); status != http.StatusOK {
						t.Errorf("%s: %d %s", path, status, body)
					}
				}
				// It answers only so many at once.
				if status, body := page.get("", "/metrics"); status != http.StatusOK && status != http.StatusServiceUnavailable {
					t.Errorf("/metrics: %d %s", status, body)
				}
			}
		})
	}
	id := refresh(t, super)
	group.Wait()
	dbtest.Eventually(t, dbtest.Deadline, "the event is in the log", func() bool { return hasEvent(stdout.events(t), id) })
	dbtest.Eventually(t, dbtest.Deadline, "the event is posted", func() bool { return received.accepted()[id] >= 1 })
	if got := most(); got > few || got < few/2 {
		t.Errorf("up to %d connections, want %d", got, few)
	}
	if strings.Contains(stderr.String(), "too many connections") {
		t.Errorf("it wants more: %s", stderr)
	}
}

// watchConnections returns a function that ends the watch, and returns the most connections of role runner.
func watchConnections(t *testing.T, super *sql.DB) func() int {
	t.Helper()
	done, counted := make(chan struct{}), make(chan int)
	go func() {
		most := 0
		for {
			var count int
			if err := super.QueryRow("select count(*) from pg_stat_activity where usename = 'runner'").Scan(&count); err != nil {
				t.Errorf("count the connections: %v", err)
			}
			most = max(most, count)
			select {
			case <-done:
				counted <- most
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	return func() int { close(done); return <-counted }
}

// The parts never get more than there is, and each enough to work.
func TestConnectionsAreShared(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name         string
		p            program
		fewest, most int
	}{
		{"alone", program{}, 12, 21},
		{"with users", program{hasUsers: true}, 15, 21 + login.MaxUsers*login.ConnsPerUser},
		{"with the clock", program{hasClock: true}, 15, 31},
		{"with pg_cron elsewhere", program{hasClock: true, cronURL: "postgres://x"}, 15, 24},
	} {
		fixed := test.most
		if all, err := test.p.shareConnections(); err != nil {
			t.Errorf("%s: %v", test.name, err)
		} else {
			fixed -= all.count()
		}
		for n := 1; n <= test.most+5; n++ {
			p := test.p
			p.maxConns = n
			got, err := p.shareConnections()
			if (err == nil) != (n >= test.fewest) {
				t.Errorf("%s: %d connections: %v", test.name, n, err)
			}
			if count := fixed + got.count(); err == nil && (count > n || count < min(n-login.ConnsPerUser+1, test.most)) {
				t.Errorf("%s: of %d connections %d are used: %+v", test.name, n, count, got)
			}
		}
	}
}

// A LISTEN_URL that leads elsewhere is refused before anything is made there.
func TestListenURLElsewhere(t *testing.T) {
	dbtest.SameOnEveryServer(t)
	t.Parallel()
	super, server := newServer(t)
	dbtest.Exec(t, super, "create database elsewhere")
	dbtest.Exec(t, super, "create role runner login in role tinydevcrm_orchestrator")
	elsewhere := strings.Replace(server.URL, "/tinydevcrm?", "/elsewhere?", 1)
	for _, args := range [][]string{{"up", "--listen-addr", "localhost:0"}, {"migrate", "up"}, {"doctor"}} {
		for listenURL, want := range map[string]string{
			elsewhere:                            "leads to database elsewhere as postgres, but DATABASE_URL to database tinydevcrm as postgres",
			dbtest.AsRole(server.URL, "runner"):  "leads to database tinydevcrm as runner",
			"postgres://x:secret@127.0.0.1:1/x":  "LISTEN_URL: the database does not answer",
			"postgres://x:secret@127.0.0.1:1x/x": "LISTEN_URL: the database URL is malformed",
		} {
			_, stderr, err := command(t, server.URL, "", append(args, "--listen-url", listenURL)...)
			if err == nil || !strings.Contains(stderr, want) || strings.Contains(stderr, "secret") {
				t.Errorf("%v with %s: %v, %s", args, listenURL, err, stderr)
			}
		}
	}
	if dbtest.Value[bool](t, openPool(t, elsewhere), "select exists (select from pg_namespace where nspname = 'tinydevcrm')") {
		t.Error("it has migrated the other database")
	}
	mustCommand(t, server.URL, "migrate", "version", "--listen-url", server.URL)
}
