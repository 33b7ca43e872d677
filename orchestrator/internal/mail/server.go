// Package mail sends a message to people by e-mail, through the operator's SMTP server.
package mail

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	netmail "net/mail"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	gomail "github.com/wneessen/go-mail"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/message"
)

const (
	connectWithin = 10 * time.Second
	// answerWithin bounds each step of a conversation, sendWithin the conversation. It is shorter than the time after
	// which another program may send the message.
	answerWithin = 15 * time.Second
	sendWithin   = 40 * time.Second
)

// A Server is the SMTP server that takes our e-mails.
type Server struct {
	host           string
	port           int
	user, password string
	from           *netmail.Address
	security       security
	// roots verify its certificate; nil for those of the system.
	roots                    *x509.CertPool
	answerWithin, sendWithin time.Duration
}

// A security says how the connection is encrypted.
type security int

const (
	startTLS security = iota
	fromStart
	plain
)

// Parse reads SMTP_URL: smtp://user:password@host:587?from=alerts@example.com, or smtps:// for TLS from the start. An
// error does not show it, because it holds a password.
func Parse(address string) (*Server, error) {
	target, err := url.Parse(address)
	if err != nil || target.Hostname() == "" || (target.Scheme != "smtp" && target.Scheme != "smtps") ||
		(target.Path != "" && target.Path != "/") {
		return nil, badURL("it is not smtp://host or smtps://host")
	}
	s := &Server{
		host:         target.Hostname(),
		port:         587,
		user:         target.User.Username(),
		answerWithin: answerWithin,
		sendWithin:   sendWithin,
	}
	s.password, _ = target.User.Password()
	if target.Scheme == "smtps" {
		s.port, s.security = 465, fromStart
	} else if isLoopback(s.host) {
		s.security = plain
	}
	if port := target.Port(); port != "" {
		if s.port, err = strconv.Atoi(port); err != nil || s.port < 1 || s.port > 65535 {
			return nil, badURL("there is no port " + port)
		}
	}
	query, err := url.ParseQuery(target.RawQuery)
	if err != nil {
		return nil, badURL("what follows the question mark cannot be read")
	}
	for name := range query {
		switch value := query.Get(name); {
		case name == "from":
			if s.from, err = netmail.ParseAddress(value); err != nil {
				return nil, badURL("from is not an e-mail address")
			}
		case name == "tls" && s.security != fromStart && value == "none":
			s.security = plain
		case name == "tls" && s.security != fromStart && value == "starttls":
			s.security = startTLS
		default:
			return nil, badURL(fmt.Sprintf("%q is not an option with that value", name))
		}
	}
	if s.from == nil {
		return nil, badURL("it has no from")
	}
	return s, nil
}

func badURL(why string) error {
	return &db.UserError{
		Message: "SMTP_URL cannot be used: " + why,
		Hint: "Write smtp://user:password@smtp.example.com:587?from=alerts@example.com. What is special in a URL is written " +
			"as %40 for @, %3A for : and so on. smtps:// is TLS from the start; ?tls=none leaves it out.",
	}
}

func isLoopback(host string) bool {
	address, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && address.IsLoopback()
}

// String is the server without its password.
func (s *Server) String() string { return net.JoinHostPort(s.host, strconv.Itoa(s.port)) }

// client returns a client, and a function that closes its connection. go-mail itself leaves a connection open when
// the conversation fails at its start.
func (s *Server) client() (client *gomail.Client, hangUp func(), err error) {
	encryption := &tls.Config{ServerName: s.host, RootCAs: s.roots, MinVersion: tls.VersionTLS12}
	// It may be closed while it is being opened.
	var opened atomic.Pointer[net.Conn]
	options := []gomail.Option{
		gomail.WithPort(s.port),
		gomail.WithTimeout(s.answerWithin),
		gomail.WithoutNoop(),
		gomail.WithTLSConfig(encryption),
		gomail.WithTLSPolicy(gomail.NoTLS),
		gomail.WithDialContextFunc(func(ctx context.Context, network, address string) (net.Conn, error) {
			var conn net.Conn
			var err error
			dialer := &net.Dialer{Timeout: connectWithin, KeepAlive: 15 * time.Second}
			if s.security == fromStart {
				conn, err = (&tls.Dialer{NetDialer: dialer, Config: encryption}).DialContext(ctx, network, address)
			} else {
				conn, err = dialer.DialContext(ctx, network, address)
			}
			if err == nil {
				opened.Store(&conn)
			}
			return conn, err
		}),
	}
	switch s.security {
	case startTLS:
		options = append(options, gomail.WithTLSPolicy(gomail.TLSMandatory))
	case fromStart:
		options = append(options, gomail.WithSSL())
	}
	if s.user != "" {
		// The library's own choice takes a connection that our dialer has encrypted for a plain one. PLAIN and LOGIN
		// themselves refuse to send the password in clear to another machine.
		options = append(options, gomail.WithOpportunisticSMTPAuth(gomail.SMTPAuthSCRAMSHA256, gomail.SMTPAuthSCRAMSHA1,
			gomail.SMTPAuthPlain, gomail.SMTPAuthLogin, gomail.SMTPAuthCramMD5), gomail.WithUsername(s.user), gomail.WithPassword(s.password))
	}
	client, err = gomail.NewClient(s.host, options...)
	if err != nil {
		return nil, nil, fmt.Errorf("prepare an SMTP connection: %w", err)
	}
	return client, func() {
		if conn := opened.Load(); conn != nil {
			(*conn).Close()
		}
	}, nil
}

// A Report is what became of a message.
type Report struct {
	// Sent are the addresses for which the server has taken it.
	Sent []string
	// Refused says for which it has not, for good, and why: one line each.
	Refused []string
	// Failure says why the rest is to be tried again; empty when there is no rest.
	Failure string
}

// send sends the letters one by one, so that a bad address stops no other. The error is that of the context, when it
// ends first: then nothing is known about the rest.
func (s *Server) send(ctx context.Context, letters []letter) (Report, error) {
	var report Report
	client, hangUp, err := s.client()
	if err != nil {
		return report, err
	}
	defer hangUp()
	attempt, cancel := context.WithTimeout(ctx, s.sendWithin)
	defer cancel()
	// go-mail does not look at the context while it waits for an answer.
	defer context.AfterFunc(attempt, hangUp)()

	if err := client.DialWithContext(attempt); err != nil {
		report.Failure = s.explain(attempt, err)
		return report, ctx.Err()
	}
	for _, l := range letters {
		err := client.Send(l.msg)
		// An error after the server has taken it is about the next one.
		if err == nil || l.msg.IsDelivered() {
			report.Sent = append(report.Sent, l.to)
			continue
		}
		reason := s.explain(attempt, err)
		var failed *gomail.SendError
		isAnswered := errors.As(err, &failed) && failed.ErrorCode() >= 400
		isAboutMail := isAnswered && failed.Reason != gomail.ErrSMTPMailFrom && failed.ErrorCode() != serviceEnds
		switch {
		case isAboutMail && failed.ErrorCode() >= 500:
			report.Refused = append(report.Refused, l.to+": "+reason)
		case isAboutMail:
			report.Failure = l.to + ": " + reason
		default:
			report.Failure = reason
			return report, ctx.Err()
		}
	}
	// The server has taken all of them already.
	_ = client.Close()
	return report, nil
}

// serviceEnds is the answer of a server that ends the conversation.
const serviceEnds = 421

// explain says in one line why a message was not taken.
func (s *Server) explain(attempt context.Context, err error) string {
	text := err.Error()
	var failed *gomail.SendError
	if errors.As(err, &failed) {
		// go-mail puts its own words, the recipient and the message's id around the server's answer.
		text = strings.TrimPrefix(text, failed.Reason.String()+": ")
		text, _, _ = strings.Cut(text, ", affected ")
	}
	switch {
	case attempt.Err() != nil:
		return fmt.Sprintf("%v did not take everything within %v", s, s.sendWithin)
	// A SendError hides what it is made of.
	case errors.Is(err, os.ErrDeadlineExceeded), strings.Contains(text, os.ErrDeadlineExceeded.Error()):
		return fmt.Sprintf("no answer from %v within %v", s, s.answerWithin)
	}
	if code, quoted, _ := strings.Cut(text, " "); failed != nil && failed.ErrorCode() >= 400 {
		if answer, err := strconv.Unquote(quoted); err == nil {
			text = code + " " + answer
		}
	}
	return oneLine(text, 300)
}

// Post sends a notification to its recipients, each a letter of their own.
func (s *Server) Post(ctx context.Context, notification []byte, publicURL string) (Report, error) {
	m, err := message.Parse(notification, publicURL)
	if err != nil {
		return Report{}, err
	}
	e, err := envelopeOf(notification)
	if err != nil {
		return Report{}, err
	}
	if len(e.Recipients) == 0 {
		return Report{Refused: []string{"there is no recipient left"}}, nil
	}
	letters, err := write(m, e, s, publicURL)
	if err != nil {
		return Report{}, err
	}
	return s.send(ctx, letters)
}
