package web_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// A browser is a Chromium of its own, with one tab.
type browser struct {
	t   testing.TB
	ctx context.Context

	mu     sync.Mutex
	errors []string
}

func newBrowser(t testing.TB) *browser {
	t.Helper()
	dbtest.SameOnEveryServer(t)
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.NoSandbox, // tests may run as root, and load only our page
		chromedp.DisableGPU,
		chromedp.NoFirstRun,
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
		// A page out of this cache has no load event, for which the tests wait.
		chromedp.Flag("disable-features", "BackForwardCache"),
		chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.UserDataDir(t.TempDir()),
		chromedp.WindowSize(1280, 900),
	)
	// This is not the test's own context, which ends before the browser can be closed properly.
	ctx, cancel := context.WithTimeout(context.Background(), 2*deadline)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)

	b := &browser{t: t, ctx: ctx}
	if err := chromedp.Listen(ctx, b.hear); err != nil {
		t.Fatalf("start Chromium (scripts/setup installs it): %v", err)
	}
	// Closed before its folder is removed.
	t.Cleanup(func() { _ = chromedp.Cancel(ctx) })
	return b
}

// hear keeps the browser's error messages, except those for statuses that a test expects.
func (b *browser) hear(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch event := event.(type) {
	case *runtime.EventExceptionThrown:
		b.errors = append(b.errors, fmt.Sprintf("%+v", event.ExceptionDetails))
	case *log.EventEntryAdded:
		isExpected := strings.Contains(event.Entry.Text, "status of 409") ||
			strings.Contains(event.Entry.Text, "status of 422")
		if event.Entry.Level == log.EntryLevelError && !isExpected {
			b.errors = append(b.errors, event.Entry.Text)
		}
	}
}

// do runs actions, and reports the step at which they failed.
func (b *browser) do(step string, actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, actions...); err != nil {
		b.t.Fatalf("%s: %v", step, err)
	}
}

// read runs an action and returns its result.
func read[T any](b *browser, step string, action chromedp.Action[T]) T {
	b.t.Helper()
	value, err := chromedp.Run(b.ctx, action)
	if err != nil {
		b.t.Fatalf("%s: %v", step, err)
	}
	return value
}

// call is an action of the protocol's own.
func call[P, R any](command cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, command, params)
		return err
	})
}

// text waits for a visible element, and returns its text.
func (b *browser) text(selector string) string {
	b.t.Helper()
	b.do("wait for "+selector, chromedp.WaitVisible(chromedp.CSS(selector)))
	return read(b, "look at "+selector, chromedp.Text(chromedp.CSS(selector)))
}

func (b *browser) expect(selector, want string) {
	b.t.Helper()
	if got := b.text(selector); !strings.Contains(got, want) {
		b.t.Errorf("%s says %q, want %q", selector, got, want)
	}
}

func (b *browser) click(selector string) {
	b.t.Helper()
	b.do("click "+selector,
		chromedp.WaitVisible(chromedp.CSS(selector)),
		chromedp.Click(chromedp.CSS(selector)))
}

// press clicks what leads to another page, and waits for that page.
func (b *browser) press(selector string) {
	b.t.Helper()
	b.do("wait for "+selector,
		chromedp.WaitVisible(chromedp.CSS(selector)),
		chromedp.WaitEnabled(chromedp.CSS(selector)))
	read(b, "press "+selector, chromedp.WaitEvent(page.LoadEventFired,
		func(page.EventLoadEventFired) bool { return true },
		chromedp.Click(chromedp.CSS(selector))))
}

// checkErrors fails for error messages in the browser's console, such as violations of the policy.
func (b *browser) checkErrors() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, text := range b.errors {
		b.t.Errorf("the console says: %s", text)
	}
}

// fill replaces the text of a field by typing.
func (b *browser) fill(selector, text string) {
	b.t.Helper()
	b.do("fill in "+selector,
		chromedp.WaitVisible(chromedp.CSS(selector)),
		chromedp.Focus(chromedp.CSS(selector)),
		chromedp.Evaluate[chromedp.Void](`document.activeElement.select()`),
		chromedp.KeyEvent(text))
}

// choose selects an option of a list, as a click does.
func (b *browser) choose(selector, value string) {
	b.t.Helper()
	b.do("choose "+value+" of "+selector,
		chromedp.WaitVisible(chromedp.CSS(selector)),
		chromedp.SetValue(chromedp.CSS(selector), value))
}

// chooseFile selects a file. One with contents is created for it.
func (b *browser) chooseFile(name, contents string) {
	b.t.Helper()
	path, err := filepath.Abs("../../../scripts/" + name)
	if contents != "" {
		path = filepath.Join(b.t.TempDir(), name)
		err = os.WriteFile(path, []byte(contents), 0o600)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	b.do("choose the file",
		chromedp.SetUploadFiles(chromedp.CSS("#upload-file"), []string{path}),
		// With JavaScript the preview appears in place, and moves the page under a click that comes
		// meanwhile.
		chromedp.WaitEnabled(chromedp.CSS("#upload [formaction]")))
}

func (b *browser) value(selector string) string {
	b.t.Helper()
	return read(b, "read "+selector, chromedp.Value(chromedp.CSS(selector)))
}

// waitFor waits until an expression is true.
func (b *browser) waitFor(what, expression string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, deadline)
	defer cancel()
	poll := chromedp.Poll[chromedp.Void](expression, chromedp.WithPollingInterval(100*time.Millisecond))
	if _, err := chromedp.Run(ctx, poll); err != nil {
		b.t.Fatalf("wait until %s: %v", what, err)
	}
}

// takeScreenshots checks that the page fits narrow screens, and saves what it looks like to the folder that
// TINYDEVCRM_SHOTS names, if it does.
func (b *browser) takeScreenshots(name string) {
	b.t.Helper()
	folder := os.Getenv("TINYDEVCRM_SHOTS")
	for _, width := range []int64{1280, 390} {
		b.do("resize", chromedp.EmulateViewport(width, 900))
		overflow := read(b, "measure", chromedp.Evaluate[int](
			`document.documentElement.scrollWidth - document.documentElement.clientWidth`))
		if overflow > 0 {
			b.t.Errorf("%s at %d pixels: %d are beyond the edge", name, width, overflow)
		}
		if folder == "" {
			continue
		}
		for _, scheme := range []string{"dark", "light"} {
			b.prefer(scheme)
			picture := read(b, "take a screenshot", chromedp.FullScreenshot(100))
			path := filepath.Join(folder, fmt.Sprintf("%s-%d-%s.png", name, width, scheme))
			if err := os.WriteFile(path, picture, 0o644); err != nil {
				b.t.Fatal(err)
			}
		}
	}
	b.do("back to a wide screen", chromedp.ResetViewport())
}

// prefer sets the browser's preference for the dark or the light colours.
func (b *browser) prefer(scheme string) {
	b.t.Helper()
	b.do("switch the colours", call(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	}))
}
