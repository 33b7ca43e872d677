package dbtest

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// Pooler starts PgBouncer in transaction mode before the server, and returns the URL through it. It ends with the
// test.
func (s *Server) Pooler() string {
	s.t.Helper()
	parsed, err := url.Parse(s.URL)
	if err != nil {
		s.t.Fatal(err)
	}
	owner, err := os.Stat(s.folder)
	if err != nil {
		s.t.Fatal(err)
	}
	uid, gid := owner.Sys().(*syscall.Stat_t).Uid, owner.Sys().(*syscall.Stat_t).Gid
	folder, err := os.MkdirTemp("", "pooler")
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { os.RemoveAll(folder) })
	const port = "6432"
	address := loopback()
	file := filepath.Join(folder, "pgbouncer.ini")
	settings := fmt.Sprintf(`[databases]
* = host=%s port=%s user=%s
[pgbouncer]
listen_addr = %s
listen_port = %s
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 8
`, parsed.Query().Get("host"), parsed.Query().Get("port"), parsed.Query().Get("user"), address, port)
	if err := os.WriteFile(file, []byte(settings), 0o644); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Chmod(folder, 0o755); err != nil {
		s.t.Fatal(err)
	}

	// Debian has it where only root looks for commands.
	pooler := exec.Command("/usr/sbin/pgbouncer", "--quiet", file)
	if os.Geteuid() == 0 {
		// It refuses to run as root.
		pooler.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}}
	}
	var log Output
	pooler.Stderr = &log
	if err := pooler.Start(); err != nil {
		s.t.Fatalf("start PgBouncer, which scripts/setup installs: %v", err)
	}
	s.t.Cleanup(func() {
		_ = pooler.Process.Kill()
		_ = pooler.Wait()
		if s.t.Failed() {
			s.t.Logf("PgBouncer: %s", log.String())
		}
	})
	Eventually(s.t, Deadline, "PgBouncer listens", func() bool {
		conn, err := net.Dial("tcp", net.JoinHostPort(address, port))
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return fmt.Sprintf("postgres://%s@%s/%s?sslmode=disable",
		parsed.Query().Get("user"), net.JoinHostPort(address, port), filepath.Base(parsed.Path))
}
