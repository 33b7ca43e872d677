//go:build faults

package faults

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// ownerOf returns the owner of a file.
func ownerOf(t *testing.T, path string) (uid, gid uint32) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	stat := info.Sys().(*syscall.Stat_t)
	return stat.Uid, stat.Gid
}

// asOwner runs a server program as the user who runs the server, who is not root.
func asOwner(t *testing.T, server *dbtest.Server, command *exec.Cmd) {
	t.Helper()
	if os.Geteuid() == 0 {
		uid, gid := ownerOf(t, server.Folder())
		command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}}
	}
	// scripts/db starts the server in this folder, with a relative path, which a restart reads again.
	command.Dir = filepath.Dir(server.Folder())
	// Not a pipe, because the server that it starts would hold it open.
	log, err := os.CreateTemp(t.TempDir(), "log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	command.Stdout, command.Stderr = log, log
	if err := command.Run(); err != nil {
		text, _ := os.ReadFile(log.Name())
		t.Fatalf("%s: %v\n%s", command, err, text)
	}
}
