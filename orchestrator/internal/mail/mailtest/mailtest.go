// Package mailtest is an SMTP server for tests, which keeps what it takes.
package mailtest

import (
	"crypto/tls"
	"io"
	"net"
	"net/mail"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// User and Password are those that the server knows.
const (
	User     = "alerts@example.com"
	Password = "p@ss:w/rd"
)

// A Mail is what the server has taken.
type Mail struct {
	From, To string
	User     string
	IsTLS    bool
	Header   mail.Header
	Raw      string
}

// A Server answers on a port of this machine.
type Server struct {
	Addr string
	// Rcpt and Data, if not nil, return the answer to a recipient, and to what was written for them.
	Rcpt, Data func(to string) error
	// NeedsLogin refuses those who have not logged in.
	NeedsLogin bool

	mu    sync.Mutex
	mails []Mail
}

// Refuse is a server's answer.
func Refuse(code int, text string) error {
	return &smtp.SMTPError{Code: code, EnhancedCode: smtp.EnhancedCode{code / 100, 1, 1}, Message: text}
}

// Start runs a server until the test ends. With a certificate it offers STARTTLS, and takes passwords only after it;
// with isTLS the connection begins with TLS.
func Start(t *testing.T, certificate *tls.Config, isTLS bool) *Server {
	t.Helper()
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Addr: socket.Addr().String()}
	server := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		return &session{server: s, conn: c}, nil
	}))
	server.Domain = "mail.example.com"
	server.TLSConfig = certificate
	server.AllowInsecureAuth = certificate == nil
	if isTLS {
		socket = tls.NewListener(socket, certificate)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(socket) }()
	t.Cleanup(func() {
		server.Close()
		<-ended
	})
	return s
}

// Mails are those that the server has taken, in their order.
func (s *Server) Mails() []Mail {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.mails)
}

type session struct {
	server         *Server
	conn           *smtp.Conn
	user, from, to string
}

func (s *session) Reset()        { s.from, s.to = "", "" }
func (s *session) Logout() error { return nil }

func (s *session) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != User || password != Password {
			return smtp.ErrAuthFailed
		}
		s.user = user
		return nil
	}), nil
}

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	if s.server.NeedsLogin && s.user == "" {
		return smtp.ErrAuthRequired
	}
	s.from = from
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.to = to
	if s.server.Rcpt != nil {
		return s.server.Rcpt(to)
	}
	return nil
}

func (s *session) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if s.server.Data != nil {
		if err := s.server.Data(s.to); err != nil {
			return err
		}
	}
	parsed, err := mail.ReadMessage(strings.NewReader(string(raw)))
	if err != nil {
		return Refuse(554, "not a message")
	}
	_, isTLS := s.conn.TLSConnectionState()
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	s.server.mails = append(s.server.mails, Mail{s.from, s.to, s.user, isTLS, parsed.Header, string(raw)})
	return nil
}

// Texts returns the decoded parts of a mail by their content type, without its parameters; attachments by their name.
func (m Mail) Texts(t *testing.T) map[string]string {
	t.Helper()
	parts := make(map[string]string)
	collect(t, m.Header.Get("Content-Type"), "", "", strings.NewReader(m.Raw[strings.Index(m.Raw, "\r\n\r\n")+4:]), parts)
	return parts
}
