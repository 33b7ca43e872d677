package mail

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"mime"
	"net"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/mail/mailtest"
)

var update = flag.Bool("update", false, "write the golden files")

// notification is one of SQL, to so many addresses.
func notification(t *testing.T, change func(map[string]any), addresses ...string) []byte {
	t.Helper()
	recipients := make([]map[string]any, len(addresses))
	for i, address := range addresses {
		recipients[i] = map[string]any{"address": address, "unsubscribe": "/unsubscribe?subscription=5&recipient=" + address + "&token=abc"}
	}
	n := map[string]any{
		"message_id": "event_17", "title": "overdue: 2 rows added", "summary": "2 rows were added.", "severity": "change",
		"key": "public.overdue", "mail_id": "delivery_5.0123456789abcdef", "path": "/views/overdue?event=17", "matview": "public.overdue", "recipients": recipients,
		"event": json.RawMessage(`{"id": 17, "matview": "public.overdue", "outcome": "refreshed", "row_count": 5, "added_count": 3,
			"removed_count": 0, "updated_count": 0,
			"added": [{"number": 1002, "customer": "Birch & Co", "amount": 450.50}, {"number": 1004, "customer": "Elm Inc", "amount": -9900.00}]}`),
	}
	if change != nil {
		change(n)
	}
	text, err := json.Marshal(n)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// certificate is one for 127.0.0.1, with the roots that verify it.
func certificate(t *testing.T) (*tls.Config, *x509.CertPool) {
	t.Helper()
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return &tls.Config{Certificates: server.TLS.Certificates}, roots
}

func mustParse(t *testing.T, address string) *Server {
	t.Helper()
	server, err := Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return server
}

const from = "?from=" + "TinyDevCRM+%3Calerts%40example.com%3E"

func TestParse(t *testing.T) {
	for address, want := range map[string]string{
		"smtp://smtp.example.com?from=a@example.com":                    "smtp.example.com:587",
		"smtps://u:p@smtp.example.com/?from=a@example.com":              "smtp.example.com:465",
		"smtp://[::1]:25?from=a@example.com":                            "[::1]:25",
		"smtp://smtp.example.com?from=A%20%3Ca@example.com%3E&tls=none": "smtp.example.com:587",
		"smtp://localhost:25?from=a@example.com&tls=starttls":           "localhost:25",
		"smtp://u:secret@smtp.example.com":                              "it has no from",
		"smtp://u:secret@smtp.example.com?from=nobody":                  "from is not",
		"smtp://u:secret@smtp.example.com?from=a@example.com&tls=maybe": `"tls" is not`,
		"smtps://u:secret@smtp.example.com?from=a@example.com&tls=none": `"tls" is not`,
		"smtp://u:secret@smtp.example.com?from=a@example.com&port=3":    `"port" is not`,
		"smtp://u:secret@smtp.example.com:99999?from=a@example.com":     "there is no port",
		"http://u:secret@smtp.example.com?from=a@example.com":           "it is not smtp",
		"smtp.example.com":                                               "it is not smtp",
		"smtp://u:sec%ret@smtp.example.com":                              "it is not smtp",
		"smtp://u:secret@smtp.example.com/x?from=a@example.com":          "it is not smtp",
		"smtp://u:secret@smtp.example.com?from=a@example.com%0d%0ax:%20": "from is not",
	} {
		server, err := Parse(address)
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			got = server.String()
		}
		if !strings.Contains(got, want) || strings.Contains(got, "secret") {
			t.Errorf("Parse(%q) gives %q, want %q and no password", address, got, want)
		}
	}
	for address, want := range map[string]security{
		"smtp://smtp.example.com" + from:            startTLS,
		"smtp://127.0.0.1" + from:                   plain,
		"smtp://127.0.0.1" + from + "&tls=starttls": startTLS,
		"smtp://10.0.0.1" + from + "&tls=none":      plain,
		"smtps://localhost" + from:                  fromStart,
	} {
		if got := mustParse(t, address).security; got != want {
			t.Errorf("%s: security %d, want %d", address, got, want)
		}
	}
}

// TestLetter compares a letter with a golden file, which a person can read.
func TestLetter(t *testing.T) {
	smtp := mailtest.Start(t, nil, false)
	server := mustParse(t, "smtp://"+smtp.Addr+from)
	report, err := server.Post(t.Context(), notification(t, nil, "a@example.com"), "https://crm.example.com/")
	if err != nil || report.Failure != "" || len(report.Refused) > 0 || len(report.Sent) != 1 {
		t.Fatalf("%+v, %v", report, err)
	}
	mail := smtp.Mails()[0]
	texts := mail.Texts(t)
	boundary := regexp.MustCompile(`(?m)^Date: .*$|[0-9a-f]{40,}`)
	var golden strings.Builder
	for _, name := range []string{"From", "To", "Subject", "Message-Id", "Auto-Submitted", "List-Unsubscribe", "List-Unsubscribe-Post"} {
		golden.WriteString(name + ": " + mail.Header.Get(name) + "\n")
	}
	for _, name := range []string{"text/plain", "text/html", "public_overdue-17.csv"} {
		golden.WriteString("\n=== " + name + "\n" + strings.ReplaceAll(texts[name], "\r\n", "\n"))
	}
	got := boundary.ReplaceAllString(golden.String(), "…")
	if *update {
		if err := os.WriteFile("testdata/letter.txt", []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/letter.txt")
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the letter is not testdata/letter.txt:\n%s", got)
	}
	if mail.From != "alerts@example.com" || mail.To != "a@example.com" {
		t.Errorf("it is from %s to %s", mail.From, mail.To)
	}
}

// TestInjection puts what ends a line, a header, a tag or a cell into everything that comes from data.
func TestInjection(t *testing.T) {
	const evil = "x\r\nBcc: evil@example.com\r\n\r\n<script>alert(1)</script>\"'<b>{{.Title}} =?utf-8?q?=0D=0ABcc:?= \u2028 \x00"
	smtp := mailtest.Start(t, nil, false)
	server := mustParse(t, "smtp://"+smtp.Addr+from)
	row := map[string]string{evil: evil, "formula": "=HYPERLINK(\"https://evil.example\")", "sum": "-2+3", "debt": "-5", "at": "@SUM(A1)"}
	text := notification(t, func(n map[string]any) {
		for _, name := range []string{"title", "summary", "severity", "key", "matview", "description", "message_id", "mail_id"} {
			n[name] = evil
		}
		n["event"] = map[string]any{"outcome": "refreshed", "added": []any{row}, "added_count": 1}
	}, "a@example.com")
	report, err := server.Post(t.Context(), text, "https://crm.example.com")
	if err != nil || len(report.Sent) != 1 {
		t.Fatalf("%+v, %v", report, err)
	}
	mail := smtp.Mails()[0]
	for name := range mail.Header {
		switch name {
		case "Date", "From", "To", "Subject", "Message-Id", "Auto-Submitted", "List-Unsubscribe", "List-Unsubscribe-Post", "Mime-Version", "Content-Type":
		default:
			t.Errorf("there is a header %s", name)
		}
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(mail.Header.Get("Subject"))
	if err != nil || strings.ContainsAny(subject, "\r\n") || strings.Contains(subject, "=?") {
		t.Errorf("subject %q, %v", subject, err)
	}
	texts := mail.Texts(t)
	if len(texts) != 3 {
		t.Errorf("%d parts", len(texts))
	}
	for name, text := range texts {
		switch {
		case name == "text/html":
			if strings.Contains(text, "<script") || strings.Contains(text, "<b>") {
				t.Errorf("HTML of the data comes through: %s", text)
			}
		case strings.HasSuffix(name, ".csv"):
			if strings.ContainsAny(name, "\r\n\"/\\ ") {
				t.Errorf("the file's name is %q", name)
			}
			for _, want := range []string{"'=HYPERLINK", "'-2+3", "'@SUM", ",-5"} {
				if !strings.Contains(text, want) {
					t.Errorf("no %s in the CSV: %s", want, text)
				}
			}
		}
	}
}

// TestDigest sends one letter for several events.
func TestDigest(t *testing.T) {
	smtp := mailtest.Start(t, nil, false)
	server := mustParse(t, "smtp://"+smtp.Addr+from)
	var one, other json.RawMessage = notification(t, nil), notification(t, func(n map[string]any) {
		n["title"], n["matview"], n["message_id"] = "stock: empty", "public.stock", "event_18"
	})
	text := notification(t, func(n map[string]any) {
		n["title"], n["summary"], n["matview"], n["event"] = "2 notifications", "From overdue and stock.", "", nil
		n["events"] = []json.RawMessage{one, other}
	}, "a@example.com")
	if report, err := server.Post(t.Context(), text, ""); err != nil || len(report.Sent) != 1 {
		t.Fatalf("%+v, %v", report, err)
	}
	texts := smtp.Mails()[0].Texts(t)
	for _, name := range []string{"public_overdue-17.csv", "public_stock-18.csv"} {
		if !strings.Contains(texts[name], "Birch & Co") {
			t.Errorf("no file %s with the rows: %q", name, texts[name])
		}
	}
	for _, name := range []string{"text/plain", "text/html"} {
		for _, want := range []string{"From overdue and stock.", "overdue: 2 rows added", "stock: empty"} {
			if !strings.Contains(texts[name], want) {
				t.Errorf("no %q in %s:\n%s", want, name, texts[name])
			}
		}
	}
}

func TestSecurity(t *testing.T) {
	encryption, roots := certificate(t)
	credentials := url.UserPassword(mailtest.User, mailtest.Password).String() + "@"
	for name, test := range map[string]struct {
		scheme, credentials, option string
		certificate                 *tls.Config
		roots                       *x509.CertPool
		isTLS                       bool
		failure                     string
	}{
		"STARTTLS":                  {"smtp", credentials, "&tls=starttls", encryption, roots, false, ""},
		"TLS":                       {"smtps", credentials, "", encryption, roots, true, ""},
		"no STARTTLS is offered":    {"smtp", credentials, "&tls=starttls", nil, roots, false, "does not support STARTTLS"},
		"an unknown certificate":    {"smtp", credentials, "&tls=starttls", encryption, x509.NewCertPool(), false, "certificate"},
		"an unknown one from start": {"smtps", credentials, "", encryption, x509.NewCertPool(), true, "certificate"},
		"a wrong password":          {"smtp", "alerts%40example.com:wrong@", "&tls=starttls", encryption, roots, false, "535"},
		"no password":               {"smtp", "", "&tls=starttls", encryption, roots, false, "502"},
	} {
		t.Run(name, func(t *testing.T) {
			smtp := mailtest.Start(t, test.certificate, test.isTLS)
			smtp.NeedsLogin = true
			server := mustParse(t, test.scheme+"://"+test.credentials+smtp.Addr+from+test.option)
			server.roots = test.roots
			report, err := server.Post(t.Context(), notification(t, nil, "a@example.com"), "")
			if err != nil {
				t.Fatal(err)
			}
			if len(report.Refused) > 0 || (report.Failure == "") != (test.failure == "") || !strings.Contains(strings.ToLower(report.Failure), strings.ToLower(test.failure)) {
				t.Errorf("%+v, want the failure %q", report, test.failure)
			}
			if strings.Contains(report.Failure, mailtest.Password) {
				t.Errorf("the password is in %q", report.Failure)
			}
			mails := smtp.Mails()
			if wants := test.failure == ""; wants != (len(mails) == 1) || wants && (!mails[0].IsTLS || mails[0].User != mailtest.User) {
				t.Errorf("mails: %+v", mails)
			}
		})
	}
}

// TestRefusals has one bad recipient among several.
func TestRefusals(t *testing.T) {
	for name, test := range map[string]struct {
		rcpt, data func(to string) error
		sent       string
		refused    string
		failure    string
	}{
		"5xx to one recipient": {
			rcpt: forOne("b@example.com", mailtest.Refuse(550, "no such user")), sent: "a@example.com c@example.com",
			refused: "b@example.com: 550 5.1.1 no such user"},
		"4xx to one recipient": {
			rcpt: forOne("b@example.com", mailtest.Refuse(451, "greylisted")), sent: "a@example.com c@example.com",
			failure: "b@example.com: 451 4.1.1 greylisted"},
		"5xx to what is written": {
			data: forOne("c@example.com", mailtest.Refuse(554, "looks like spam")), sent: "a@example.com b@example.com",
			refused: "c@example.com: 554 5.1.1 looks like spam"},
		"4xx to what is written": {
			data: forOne("a@example.com", mailtest.Refuse(452, "no space")), sent: "b@example.com c@example.com",
			failure: "a@example.com: 452 4.1.1 no space"},
		"the service ends": {
			rcpt: forOne("b@example.com", mailtest.Refuse(421, "going down")), sent: "a@example.com",
			failure: "421 4.1.1 going down"},
	} {
		t.Run(name, func(t *testing.T) {
			smtp := mailtest.Start(t, nil, false)
			smtp.Rcpt, smtp.Data = test.rcpt, test.data
			server := mustParse(t, "smtp://"+smtp.Addr+from)
			report, err := server.Post(t.Context(), notification(t, nil, "a@example.com", "b@example.com", "c@example.com"), "")
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(report.Sent, " "); got != test.sent {
				t.Errorf("sent to %s, want %s", got, test.sent)
			}
			if got := strings.Join(report.Refused, " "); got != test.refused {
				t.Errorf("refused: %s, want %s", got, test.refused)
			}
			if report.Failure != test.failure {
				t.Errorf("failure %q, want %q", report.Failure, test.failure)
			}
			if len(smtp.Mails()) != len(report.Sent) {
				t.Errorf("%d mails were taken", len(smtp.Mails()))
			}
		})
	}
}

func forOne(address string, answer error) func(string) error {
	return func(to string) error {
		if to == address {
			return answer
		}
		return nil
	}
}

// TestHang has servers that say nothing.
func TestHang(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	hanging := mailtest.Start(t, nil, false)
	release := make(chan struct{})
	hanging.Data = func(string) error { <-release; return nil }
	// Cleanup runs before that of the server, which waits for its sessions.
	t.Cleanup(func() { close(release) })

	for name, addr := range map[string]string{"at the greeting": silent.Addr().String(), "after the text": hanging.Addr} {
		server := mustParse(t, "smtp://"+addr+from)
		server.answerWithin = 200 * time.Millisecond
		report, err := server.Post(t.Context(), notification(t, nil, "a@example.com"), "")
		if err != nil || len(report.Sent) > 0 || !strings.Contains(report.Failure, "no answer from "+addr) {
			t.Errorf("%s: %+v, %v", name, report, err)
		}
		server = mustParse(t, "smtp://"+addr+from)
		server.sendWithin = 200 * time.Millisecond
		report, err = server.Post(t.Context(), notification(t, nil, "a@example.com"), "")
		if err != nil || !strings.Contains(report.Failure, "did not take everything") {
			t.Errorf("%s, in all: %+v, %v", name, report, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		if _, err = mustParse(t, "smtp://"+addr+from).Post(ctx, notification(t, nil, "a@example.com"), ""); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s, when the program ends: %v", name, err)
		}
		cancel()
	}

	gone := mustParse(t, "smtp://"+silent.Addr().String()+from)
	silent.Close()
	if report, err := gone.Post(t.Context(), notification(t, nil, "a@example.com"), ""); err != nil || !strings.Contains(report.Failure, "connection refused") {
		t.Errorf("gone: %+v, %v", report, err)
	}
}
