package db_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// The pool and the listener, which is lib/pq's, read a URL alike: without sslmode, none of them connects without TLS.
func TestParseURLAsTheListenerDoes(t *testing.T) {
	t.Setenv("PGSSLMODE", "") // which restores it
	os.Unsetenv("PGSSLMODE")
	for url, want := range map[string][]bool{ // with TLS, in the order of the attempts
		"postgres://server/x":                 {true},
		"postgres://server/x?sslmode=require": {true},
		"host=server":                         {true},
		"postgres://server/x?sslmode=prefer":  {true, false},
		"postgres://server/x?sslmode=disable": {false},
		"postgres:///x?host=/run":             {false},
	} {
		config, err := db.ParseURL(url)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		attempts := []*tls.Config{config.TLSConfig}
		for _, other := range config.Fallbacks {
			attempts = append(attempts, other.TLSConfig)
		}
		var got []bool
		for _, attempt := range attempts {
			got = append(got, attempt != nil)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: with TLS %v, want %v", url, got, want)
		}
	}
	if _, err := db.ParseURL("postgres://user:secret@server:port/x"); !errors.Is(err, db.ErrBadURL) || strings.Contains(err.Error(), "secret") {
		t.Errorf("a malformed URL: %v", err)
	}
}

// A server that sleeps may take longer to start than connections are usually given.
func TestConnectTimeoutOfTheURL(t *testing.T) {
	dbtest.SameOnEveryServer(t)
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	began := time.Now()
	if _, err := db.Open(t.Context(), "postgres://"+silent.Addr().String()+"/x?sslmode=disable&connect_timeout=12", 1); err == nil {
		t.Error("a silent server answers")
	}
	if took := time.Since(began); took < 12*time.Second || took > 20*time.Second {
		t.Errorf("it gave up after %s, want 12 s", took)
	}
}

// A COPY whose context has ended ends too, though the server is frozen and takes nothing more.
func TestCopyFromEndsWithItsContext(t *testing.T) {
	dbtest.Long(t)
	server := dbtest.NewServer(t)
	pool := server.Open()
	defer pool.Close()
	dbtest.Exec(t, pool, "create table t (line text)")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	conn, err := pool.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	endless := &lines{isRead: make(chan struct{}, 1)}
	go func() {
		_, err := db.CopyFrom(ctx, conn, "copy t from stdin", endless)
		ended <- err
	}()
	<-endless.isRead
	thaw := server.Freeze()
	cancel()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("the COPY ended well")
		}
	case <-time.After(dbtest.Deadline):
		t.Error("the COPY does not end")
	}
	thaw()
	conn.Close()
	if count := dbtest.Value[int](t, pool, "select count(*) from t"); count != 0 {
		t.Errorf("%d rows were copied", count)
	}
}

// lines are rows without end.
type lines struct{ isRead chan struct{} }

func (l *lines) Read(buffer []byte) (int, error) {
	select {
	case l.isRead <- struct{}{}:
	default:
	}
	return copy(buffer, "line\n"), nil
}

// A COPY whose rows cannot be read leaves nothing, and the connection is of use.
func TestCopyFromOfWhatCannotBeRead(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	pool.SetMaxOpenConns(1)
	dbtest.Exec(t, pool, "create table t (line text)")
	conn, err := pool.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	broken := io.MultiReader(strings.NewReader("line\n"), errorReader{})
	if _, err := db.CopyFrom(t.Context(), conn, "copy t from stdin", broken); db.Explain(err).Code != "57014" {
		t.Errorf("got %v", err)
	}
	if count, err := db.CopyFrom(t.Context(), conn, "copy t from stdin", strings.NewReader("a\nb\n")); err != nil || count != 2 {
		t.Errorf("the next COPY: %d rows, %v", count, err)
	}
	conn.Close()
	if count := dbtest.Value[int](t, pool, "select count(*) from t"); count != 2 {
		t.Errorf("there are %d rows", count)
	}
}

type errorReader struct{}

func (errorReader) Read([]byte) (int, error) { return 0, errors.New("broken") }

// A server that has become a standby refuses to write. The pool does not keep its connections.
func TestConnectionsToAStandbyAreClosed(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	pool.SetMaxOpenConns(1)
	dbtest.Exec(t, pool, "set default_transaction_read_only = on")
	_, err := pool.Exec("create table t ()")
	if problem := db.Explain(err); problem.Code != "25006" || problem.Status != 503 || !strings.Contains(problem.Hint, "primary") {
		t.Errorf("got %+v", problem)
	}
	dbtest.Exec(t, pool, "create table t ()")
}

// What would end the message is refused as the server refuses it.
func TestArgumentsWithAByteOfValue0(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	var got string
	if err := pool.QueryRowContext(t.Context(), "select $1", "a\x00b").Scan(&got); db.Explain(err).Code != "22021" {
		t.Errorf("got %q, %v", got, err)
	}
	if err := pool.QueryRowContext(t.Context(), "select $1", `'; \' -- $1 $2`).Scan(&got); err != nil || got != `'; \' -- $1 $2` {
		t.Errorf("got %q, %v", got, err)
	}
}
