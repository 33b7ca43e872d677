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
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// chromium is the one that the tests share. Each has a tab with cookies and storage of its own.
var chromium struct {
	once sync.Once
	ctx  context.Context
	err  error
}

// headlessShell is Chromium without the windows of a desktop. chromium --headless draws them, which takes more time than
// the pages do.
const headlessShell = "/usr/lib/chromium/chromium-headless-shell"

func startChromium() {
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.NoSandbox, // tests may run as root, and load only our page
		chromedp.DisableGPU,
		chromedp.NoFirstRun,
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
		// Frames of other sites are apart, as they are in a browser with windows.
		chromedp.Flag("site-per-process", true),
		// A page out of this cache has no load event, for which the tests wait.
		chromedp.Flag("disable-features", "BackForwardCache"),
		chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.WindowSize(1280, 900),
	)
	if _, err := os.Stat(headlessShell); err == nil {
		options = append(options, chromedp.ExecPath(headlessShell))
	}
	ctx, _ := chromedp.NewExecAllocator(context.Background(), options...)
	chromium.ctx, _ = chromedp.NewContext(ctx)
	chromium.err = chromedp.Do(chromium.ctx)
}

// endChromium ends it after the last test.
func endChromium() {
	if chromium.ctx != nil {
		_ = chromedp.Cancel(chromium.ctx)
	}
}

// A browser is one tab.
type browser struct {
	t   testing.TB
	ctx context.Context

	mu     sync.Mutex
	errors []string
	// loading are the requests that have no answer yet.
	loading map[network.RequestID]string
}

func newBrowser(t testing.TB) *browser {
	t.Helper()
	dbtest.SameOnEveryServer(t)
	chromium.once.Do(startChromium)
	if chromium.err != nil {
		t.Fatalf("start Chromium (scripts/setup installs it): %v", chromium.err)
	}
	// This is not a child of the test's own context, which ends before the tab can be closed properly.
	ctx, _ := chromedp.NewContext(chromium.ctx, chromedp.WithNewBrowserContext())
	t.Cleanup(func() { _ = chromedp.Cancel(ctx) })
	b := &browser{t: t, ctx: ctx, loading: map[network.RequestID]string{}}
	if err := chromedp.Listen(ctx, b.hear); err != nil {
		t.Fatalf("open a tab: %v", err)
	}
	// As if its window were in front, whatever other tabs there are.
	b.do("give it the focus", call(emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true}))
	return b
}

// hear keeps the browser's error messages, except those for statuses that a test expects, and what it is loading.
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
	case *network.EventRequestWillBeSent:
		if event.Type == network.ResourceTypeDocument {
			clear(b.loading) // what the last page was loading
		}
		// The browser gives up the icon of a page that is left, and does not say so. It moves nothing.
		isIcon := strings.Contains(event.Request.URL, "/icon.svg")
		if event.Type != network.ResourceTypeEventSource && !isIcon {
			b.loading[event.RequestID] = event.Request.URL
		}
	case *network.EventLoadingFinished:
		delete(b.loading, event.RequestID)
	case *network.EventLoadingFailed:
		delete(b.loading, event.RequestID)
	}
}

// do runs actions, and reports the step at which they failed.
func (b *browser) do(step string, actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, deadline)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.t.Fatalf("%s: %v", step, err)
	}
}

// read runs an action and returns its result.
func read[T any](b *browser, step string, action chromedp.Action[T]) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, deadline)
	defer cancel()
	value, err := chromedp.Run(ctx, action)
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

// poll evaluates an expression until the value is as wanted, and returns the last value. Meanwhile the page may be
// replaced by another.
func poll[T any](ctx context.Context, expression string, isWanted func(T) bool) (last T, err error) {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	for {
		value, failure := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
		switch {
		case failure == nil && isWanted(value):
			return value, nil
		case failure == nil:
			last, err = value, context.DeadlineExceeded
		case ctx.Err() == nil:
			err = failure
		}
		select {
		case <-ctx.Done():
			return last, err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// text waits for a visible element, and returns its text.
func (b *browser) text(selector string) string {
	b.t.Helper()
	text, err := poll(b.ctx, textOf(selector), func(text *string) bool { return text != nil })
	if err != nil {
		b.t.Fatalf("wait for %s: %v", selector, err)
	}
	return *text
}

// textOf is the text of an element; null while it is not visible.
func textOf(selector string) string {
	return fmt.Sprintf(`(node => node?.getClientRects().length ? node.innerText : null)(document.querySelector(%q))`, selector)
}

// expect waits until a visible element has a text.
func (b *browser) expect(selector, want string) {
	b.t.Helper()
	got, err := poll(b.ctx, textOf(selector), func(text *string) bool { return text != nil && strings.Contains(*text, want) })
	switch {
	case err == nil:
	case got == nil:
		b.t.Fatalf("wait for %s: %v", selector, err)
	default:
		b.t.Errorf("%s says %q, want %q", selector, *got, want)
	}
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
	b.settle(selector)
	b.do("fill in "+selector,
		chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`(field => { field.focus(); field.select(); })(document.querySelector(%q))`, selector)),
		chromedp.KeyEvent(text))
}

// choose selects an option of a list, as a click does.
func (b *browser) choose(selector, value string) {
	b.t.Helper()
	b.settle(selector)
	b.do("choose "+value+" of "+selector, chromedp.SetValue(chromedp.CSS(selector), value))
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
	if _, err := poll(b.ctx, "Boolean("+expression+")", func(is bool) bool { return is }); err != nil {
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
