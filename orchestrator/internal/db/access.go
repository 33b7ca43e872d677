package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

const (
	// passwordWithin bounds the command that prints a password.
	passwordWithin = 10 * time.Second
	// passwordLasts is how long its password is used for new connections: a pool opens several at once.
	passwordLasts = 10 * time.Second
)

// A PasswordCommand prints a password that expires. It runs again for later connections.
type PasswordCommand struct {
	line string

	mu       sync.Mutex
	password string
	readAt   time.Time
}

// NewPasswordCommand returns the command of a line for sh; nil for an empty one.
func NewPasswordCommand(line string) *PasswordCommand {
	if line == "" {
		return nil
	}
	return &PasswordCommand{line: line}
}

func (c *PasswordCommand) read(ctx context.Context) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.readAt.IsZero() && time.Since(c.readAt) < passwordLasts {
		return c.password, nil
	}
	ctx, cancel := context.WithTimeout(ctx, passwordWithin)
	defer cancel()
	command := exec.CommandContext(ctx, "sh", "-c", c.line)
	// What it has started may keep its output open.
	command.WaitDelay = time.Second
	output, err := command.Output()
	if err != nil {
		var failed *exec.ExitError
		if errors.As(err, &failed) {
			return "", fmt.Errorf("run the password command: %w: %s", err, firstLine(string(failed.Stderr)))
		}
		return "", fmt.Errorf("run the password command: %w", err)
	}
	password := strings.TrimRight(string(output), "\r\n")
	if password == "" {
		return "", errors.New("the password command printed no password")
	}
	c.password, c.readAt = password, time.Now()
	return c.password, nil
}

// An Access says how to reach a database.
type Access struct {
	// URL is what Open takes. A password file that it or PGPASSFILE names is read anew for each connection.
	URL string
	// Password is nil for the password of the URL, or of the file.
	Password *PasswordCommand
}

// Open is Open with this access.
func (a Access) Open(ctx context.Context, maxConns int) (*sql.DB, error) {
	config, err := ParseURL(a.URL)
	if err != nil {
		return nil, err
	}
	return openConfig(ctx, config, maxConns, a.logIn())
}

// OpenAs returns one connection that logs in as a role, as pg_cron does: as another role, with the password that a
// password file has for it, or without one.
func (a Access) OpenAs(ctx context.Context, role string) (*sql.DB, error) {
	config, err := ParseURL(a.URL)
	if err != nil {
		return nil, err
	}
	if config.User == role {
		return openConfig(ctx, config, 1, a.logIn())
	}
	other, err := withRole(a.URL, role)
	if err != nil {
		return nil, err
	}
	if config, err = ParseURL(other); err != nil {
		return nil, err
	}
	return OpenConfig(ctx, config, 1)
}

// withRole is a URL, or "key=value" pairs, with another role, and with an empty password, so that PGPASSWORD is not sent.
func withRole(databaseURL, role string) (string, error) {
	if !isURL(databaseURL) {
		return databaseURL + pair("user", role) + pair("password", ""), nil
	}
	parsed, err := url.Parse(databaseURL)
	if err != nil {
		return "", ErrBadURL // as the message may have a password
	}
	parsed.User = nil
	query := parsed.Query()
	query.Set("user", role)
	query.Set("password", "")
	parsed.RawQuery = query.Encode()
	return parsed.String(), nil
}

// logIn finds the password of each new connection.
func (a Access) logIn() stdlib.OptionOpenDB {
	return stdlib.OptionBeforeConnect(func(ctx context.Context, config *pgx.ConnConfig) (err error) {
		if a.Password != nil {
			config.Password, err = a.Password.read(ctx)
			return err
		}
		current, err := ParseURL(a.URL)
		if err == nil {
			config.Password = current.Password
		}
		return err
	})
}

// DSN is the URL for lib/pq, which reads a password file for each connection too. With a PasswordCommand it has the
// password of now.
func (a Access) DSN(ctx context.Context) (string, error) {
	if a.Password == nil {
		return a.URL, nil
	}
	password, err := a.Password.read(ctx)
	if err != nil {
		return "", err
	}
	return withPassword(a.URL, password), nil
}

// withPassword adds a password to a URL, or to "key=value" pairs, where the last one counts.
func withPassword(databaseURL, password string) string {
	if !isURL(databaseURL) {
		return databaseURL + pair("password", password)
	}
	separator := "?"
	if strings.Contains(databaseURL, "?") {
		separator = "&"
	}
	return databaseURL + separator + url.Values{"password": {password}}.Encode()
}

func isURL(databaseURL string) bool {
	return strings.HasPrefix(databaseURL, "postgres://") || strings.HasPrefix(databaseURL, "postgresql://")
}

func pair(key, value string) string {
	return " " + key + "='" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value) + "'"
}
