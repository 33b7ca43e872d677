package dbtest

import (
	"database/sql"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

// A Cluster is a Citus coordinator with its workers, on loopback. The workers have no pg_cron.
type Cluster struct {
	*Server
	Workers []*Server
}

// NewCluster makes a coordinator and the given number of workers, and removes them when the test ends. On a
// server without Citus it skips the test and says so.
func NewCluster(t *testing.T, workers int) *Cluster {
	t.Helper()
	if !offersCitus(t) {
		t.Skipf("not run: %s: the server does not offer citus", t.Name())
	}
	newServer := func() *Server { return start(t, &Server{bindir: os.Getenv("PG_BINDIR"), isFast: true}) }
	c := &Cluster{Server: newServer()}
	c.preloadCitus("citus,pg_cron")
	for range workers {
		worker := newServer()
		worker.preloadCitus("citus")
		c.Workers = append(c.Workers, worker)
	}
	pool := c.Open()
	defer pool.Close()
	c.Join(pool)
	return c
}

// Join makes one cluster of servers that have loaded the library of Citus.
func (c *Cluster) Join(pool *sql.DB) {
	c.t.Helper()
	Exec(c.t, pool, "create extension citus")
	Exec(c.t, pool, "select citus_set_coordinator_host($1, 5432)", c.address)
	for _, worker := range c.Workers {
		workerPool := worker.Open()
		Exec(c.t, workerPool, "create extension citus")
		workerPool.Close()
		Exec(c.t, pool, "select citus_add_node($1, 5432)", worker.address)
	}
}

func offersCitus(t *testing.T) bool {
	t.Helper()
	pool, err := db.Open(t.Context(), URL(t), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	return Value[bool](t, pool, "select exists (select from pg_available_extensions where name = 'citus')")
}

// preloadCitus restarts the server with the library of Citus, on an address of its own.
func (s *Server) preloadCitus(libraries string) {
	s.t.Helper()
	s.address = loopback()
	s.Append("pg_hba.conf", "host all all 127.0.0.0/8 trust")
	s.Set("listen_addresses", s.address)
	s.Set("shared_preload_libraries", libraries)
	s.Stop()
	s.StartAny()
}

// StartAny starts the server, with pg_cron or without.
func (s *Server) StartAny() {
	s.t.Helper()
	if output, err := s.command("start").CombinedOutput(); err != nil &&
		!strings.Contains(string(output), "without pg_cron") {
		s.t.Fatalf("scripts/db start: %v\n%s", err, output)
	}
}

// Open connects to the server.
func (s *Server) Open() *sql.DB {
	s.t.Helper()
	pool, err := db.Open(s.t.Context(), s.URL, db.MaxConns)
	if err != nil {
		s.t.Fatal(err)
	}
	return pool
}

// Explained is the error as the user sees it, with its code: "TD010 this database …".
func Explained(err error) string {
	if err == nil {
		return ""
	}
	problem := db.Explain(err)
	return fmt.Sprintf("%s %s", problem.Code, problem.Message)
}
