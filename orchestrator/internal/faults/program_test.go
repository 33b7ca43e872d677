//go:build faults

package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// binary is the program, built once.
var binary string

func TestMain(m *testing.M) {
	folder, err := os.MkdirTemp("", "faults")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(folder, "orchestrator")
	out, err := exec.Command("go", "build", "-o", binary, "../..").CombinedOutput()
	code := 1
	if err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
	} else {
		code = dbtest.Main(m)
	}
	os.RemoveAll(folder)
	os.Exit(code)
}

// appName is the application_name of the program's connections.
const appName = "faulty"

// A program is orchestrator up.
type program struct {
	t      *testing.T
	page   string
	stdout *dbtest.Output
	stderr *dbtest.Output
	cmd    *exec.Cmd
	ended  chan error
}

// startUp starts a program and waits until it listens and serves. It ends with the test.
func startUp(t *testing.T, binary, databaseURL string, environment ...string) *program {
	t.Helper()
	p := &program{t: t, stdout: &dbtest.Output{}, stderr: &dbtest.Output{}, ended: make(chan error, 1)}
	p.cmd = exec.Command(binary, "up", "--listen-addr", "localhost:0", "--allow-webhooks-to", "127.0.0.0/8")
	p.cmd.Env = append(append(os.Environ(), "DATABASE_URL="+databaseURL+"&application_name="+appName), environment...)
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.ended <- p.cmd.Wait() }()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.ended
		if t.Failed() {
			log := p.stderr.String()
			t.Logf("the program said in the end:\n%s", log[max(0, len(log)-3000):])
		}
	})
	dbtest.Eventually(t, dbtest.Deadline, "the program is ready", func() bool {
		log := p.stderr.String()
		return strings.Contains(log, `"page":"`) && strings.Contains(log, `"msg":"listening"`)
	})
	_, after, _ := strings.Cut(p.stderr.String(), `"page":"`)
	p.page, _, _ = strings.Cut(after, `"`)
	p.page = strings.TrimSuffix(p.page, "/")
	return p
}

func (p *program) kill() {
	p.t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		p.t.Fatal(err)
	}
	err := <-p.ended
	p.ended <- err
}

// end asks the program to end, requires that it does so without an error, and returns how long that took.
func (p *program) end() time.Duration {
	p.t.Helper()
	took, err := p.terminate()
	if err != nil {
		p.t.Errorf("the program ended with %v", err)
	}
	return took
}

// terminate asks the program to end, and returns how long that took and its error.
func (p *program) terminate() (time.Duration, error) {
	p.t.Helper()
	start := time.Now()
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-p.ended:
		p.ended <- err
		return time.Since(start), err
	case <-time.After(time.Minute):
		p.t.Error("the program does not end within a minute")
		return time.Since(start), nil
	}
}

// logged returns how often each event is in the log.
func (p *program) logged() map[int64]int {
	counts := make(map[int64]int)
	for line := range strings.Lines(p.stdout.String()) {
		var event struct {
			ID int64 `json:"event_id"`
		}
		if strings.HasSuffix(line, "\n") && json.Unmarshal([]byte(line), &event) == nil {
			counts[event.ID]++
		}
	}
	return counts
}

// An answer is what a user sees: a response of the page, or the output of a command.
type answer struct {
	status int
	text   string
	took   time.Duration
}

func (a answer) String() string { return fmt.Sprintf("%d %s", a.status, a.text) }

func (a answer) says(t *testing.T, status int, words ...string) {
	t.Helper()
	if a.status != status {
		t.Errorf("the answer is %s, want %d", a, status)
	}
	for _, word := range words {
		if !strings.Contains(a.text, word) {
			t.Errorf("the answer is %s, want %q in it", a, word)
		}
	}
}

// send makes a request as a program does: errors come as JSON.
func (p *program) send(method, path, contentType string, body io.Reader) answer {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	start := time.Now()
	request, err := http.NewRequestWithContext(ctx, method, p.page+path, body)
	if err != nil {
		return answer{text: err.Error()}
	}
	request.Header.Set("Content-Type", contentType)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		// Without the port, which differs each time.
		_, short, _ := strings.Cut(err.Error(), `": `)
		return answer{text: "(no answer: " + short + ")", took: time.Since(start)}
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		text = append(text, "… "+err.Error()...)
	}
	return answer{response.StatusCode, short(text), time.Since(start)}
}

// alert is the first problem on the page, with its HTML tags.
var (
	alert = regexp.MustCompile(`(?s)role="alert"[^>]*>(.*?)</div>`)
	tag   = regexp.MustCompile(`<[^>]*>`)
)

// short joins the parts of an error in one line, and leaves out all but the first error.
func short(text []byte) string {
	var problem struct {
		Error struct{ Code, Message, Detail, Hint string }
	}
	if json.Unmarshal(text, &problem) == nil && problem.Error.Message != "" {
		words := strings.TrimSpace(problem.Error.Code + " " + problem.Error.Message)
		if problem.Error.Detail != "" {
			words += " (" + problem.Error.Detail + ")"
		}
		if problem.Error.Hint != "" {
			words += " Hint: " + problem.Error.Hint
		}
		return words
	}
	if said := alert.FindSubmatch(text); said != nil {
		text = []byte(html.UnescapeString(string(tag.ReplaceAll(said[1], []byte(" ")))))
	}
	line := strings.Join(strings.Fields(string(text)), " ")
	return line[:min(len(line), 200)]
}

func (p *program) get(path string) answer { return p.send("GET", path, "", nil) }

// post sends a form.
func (p *program) post(path, form string) answer {
	return p.send("POST", path, "application/x-www-form-urlencoded", strings.NewReader(form))
}

// upload sends a file as the table of that name.
func (p *program) upload(table string, file io.Reader) answer { return p.uploadTo(table, "", file) }

// uploadTo is upload with options in the URL.
func (p *program) uploadTo(table, options string, file io.Reader) answer {
	reader, writer := io.Pipe()
	form := multipart.NewWriter(writer)
	go func() {
		part, err := form.CreateFormFile("file", table+".csv")
		if err == nil {
			_, err = io.Copy(part, file)
		}
		if err == nil {
			err = form.Close()
		}
		writer.CloseWithError(err)
	}()
	defer reader.Close()
	return p.send("POST", "/upload-file"+options, form.FormDataContentType(), reader)
}

// run runs a command to its end. The status is its exit code, or -1 when a signal ended it.
func run(t *testing.T, databaseURL string, stdin io.Reader, started func(*os.Process), args ...string) answer {
	t.Helper()
	var out bytes.Buffer
	command := exec.Command(binary, args...)
	command.Env = append(os.Environ(), "DATABASE_URL="+databaseURL+"&application_name="+appName)
	command.Stdout, command.Stderr = &out, &out
	// A pipe, so that Wait does not wait for a reader that is held up.
	pipe, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	if started != nil {
		started(command.Process)
	}
	go func() {
		if stdin != nil {
			io.Copy(pipe, stdin)
		}
		pipe.Close()
	}()
	command.Wait()
	return answer{command.ProcessState.ExitCode(), strings.Join(strings.Fields(out.String()), " "), time.Since(start)}
}

// must runs a command that has to succeed.
func must(t *testing.T, databaseURL string, args ...string) {
	t.Helper()
	if got := run(t, databaseURL, nil, nil, args...); got.status != 0 {
		t.Fatalf("orchestrator %s: %s", strings.Join(args, " "), got)
	}
}

// report prints the one line with the outcome of each fault. All of it is measured.
func report(t *testing.T, fault string, sees any, after string, args ...any) {
	t.Helper()
	outcome := "PASS"
	if t.Failed() {
		outcome = "FAIL"
	}
	line := fmt.Sprintf("fault: %s | user sees: %v | after: %s [%s]", fault, sees, fmt.Sprintf(after, args...), outcome)
	t.Log(strings.Join(strings.Fields(line), " "))
}
