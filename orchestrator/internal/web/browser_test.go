package web_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// A browser is a Chromium of its own, with one tab.
type browser struct {
	t   *testing.T
	ctx context.Context

	mu     sync.Mutex
	errors []string
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.NoSandbox, // tests may run as root, and load nothing but our page
		chromedp.DisableGPU,
		chromedp.NoFirstRun,
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.UserDataDir(t.TempDir()),
		chromedp.WindowSize(1280, 900),
	)
	// Not the test's own context, which ends before the browser can be closed in good order.
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

// hear keeps what the browser complains about, except statuses that a test asks for.
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

// do runs actions, and says at which step they failed.
func (b *browser) do(step string, actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, actions...); err != nil {
		b.t.Fatalf("%s: %v", step, err)
	}
}

// read runs an action for what it gives.
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

// text waits for an element that can be seen, and gives what it says.
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

// press clicks what leads to another page, and waits for that.
func (b *browser) press(selector string) {
	b.t.Helper()
	b.do("wait for "+selector, chromedp.WaitVisible(chromedp.CSS(selector)))
	read(b, "press "+selector, chromedp.WaitEvent(page.LoadEventFired,
		func(page.EventLoadEventFired) bool { return true },
		chromedp.Click(chromedp.CSS(selector))))
}

// checkErrors fails for what the browser's console complains about, such as the policy.
func (b *browser) checkErrors() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, text := range b.errors {
		b.t.Errorf("the console says: %s", text)
	}
}

// walk goes through all steps on the sample, from the file chooser to a schedule. press is what makes
// a preview: with JavaScript it leads to no other page.
func (b *browser) walk(f *fixture, press func(string)) {
	b.t.Helper()
	sample, err := filepath.Abs("../../../scripts/sample.csv")
	if err != nil {
		b.t.Fatal(err)
	}

	b.do("open the page", chromedp.Navigate(f.server.URL+"/"))
	b.do("choose the file", chromedp.SetUploadFiles(chromedp.CSS("#upload-file"), []string{sample}))
	b.do("name the table", chromedp.SetValue(chromedp.CSS("#upload-table"), "kept"))
	press("#upload .second")
	b.expect("#upload-plan p", "These types fit the whole file.")
	b.expect("#upload-plan td:nth-child(2)", "integer")
	b.expect("#upload-plan pre", `.kept ("AColumnOfNumbers" integer);`)
	kept := read(b, "look at what is kept", chromedp.Value(chromedp.CSS("#upload-table")))
	if kept != "kept" {
		b.t.Errorf("the table is %q after the preview, want it as it was written", kept)
	}
	b.takeScreenshots("preview")

	b.do("open the page again", chromedp.Navigate(f.server.URL+"/"))
	b.do("choose the file", chromedp.SetUploadFiles(chromedp.CSS("#upload-file"), []string{sample}))
	b.press("#upload button")

	b.expect("#tables .done", "10 rows of sample.csv are in table sample.")
	b.expect("#preview th", "AColumnOfNumbers")
	b.expect("#preview th small", "integer")
	b.expect("#preview tr:nth-child(10) td", "9")

	b.press("#view button")
	b.expect("#schedule .done", "View sample_now is there.")
	b.expect("#matviews [data-relation=sample_now] td", "not scheduled")

	b.do("write a schedule that comes round once in a while",
		chromedp.SetValue(chromedp.CSS("#schedule-schedule"), "1 hour"))
	b.press("#schedule .buttons button")
	b.expect("#schedule .done", "View sample_now has been refreshed")
	b.expect("#matviews [data-relation=sample_now] td", "ok")
	b.expect("#feed li .matview", f.schema+".sample_now")
	b.expect("#feed li .count", "1 row")
}

func TestBrowser(t *testing.T) {
	f := newFixture(t)
	b := newBrowser(t)
	b.walk(f, b.click)

	b.expect("#feed-state.live", "Live")
	live := f.refresh("sample_now")
	item := fmt.Sprintf(`#feed li:first-child[data-id="%d"]`, live)
	b.expect(item+" .matview", f.schema+".sample_now")
	b.expect(item+" td", "")
	b.do("wait until it is said", chromedp.Poll[chromedp.Void](
		`document.getElementById('feed-news').textContent.includes('sample_now: 1 row')`))
	if count := f.number("select count(*) from tinydevcrm.matview_refresh_events where matview = $1",
		f.schema+".sample_now"); count != 2 {
		t.Errorf("%d events, want 2", count)
	}
	items := read(b, "count the items", chromedp.Evaluate[int](`document.querySelectorAll('#feed li').length`))
	if items != 2 {
		t.Errorf("the feed has %d items, want each event once", items)
	}

	b.checkUploadError()
	b.checkFeedLikeServer(f)
	b.takeScreenshots("page")

	b.do("choose the view", chromedp.SetValue(chromedp.CSS("#schedule-relation"), "sample_now"))
	b.click("#schedule .danger summary")
	b.press("#schedule .drop")
	b.expect("#schedule .done", "View sample_now is dropped.")
	b.checkErrors()
}

// checkUploadError sends the sample again, whose table is there already.
func (b *browser) checkUploadError() {
	b.t.Helper()
	sample, _ := filepath.Abs("../../../scripts/sample.csv")
	b.do("choose the file again", chromedp.SetUploadFiles(chromedp.CSS("#upload-file"), []string{sample}))
	b.click("#upload button")
	b.expect("#upload .problem", "is there already")
	b.click("#upload .second")
	b.expect("#upload .problem", "is there already")
	b.do("the button works again", chromedp.WaitEnabled(chromedp.CSS("#upload button")))
	b.takeScreenshots("upload-error")

	b.do("write a query with an error",
		chromedp.SetValue(chromedp.CSS("#view-query"), "select * form sample"),
		chromedp.SetValue(chromedp.CSS("#view-name"), "another"))
	b.press("#view button")
	b.expect("#view .problem", "syntax error")
	b.takeScreenshots("query-error")
}

// checkFeedLikeServer checks that an event looks alike whether it came live or with the page.
func (b *browser) checkFeedLikeServer(f *fixture) {
	b.t.Helper()
	f.exec(`insert into sample values (null)`)
	f.exec(`select tinydevcrm.create_matview('odd', $$
	            select n as "AColumnOfNumbers", '<b>' || repeat('é', 300) as "long", 9007199254740993 as big,
	                   '' as nothing, array[1, 2] as list, 1.50 as price
	              from (select min("AColumnOfNumbers") from sample union all select null) as first (n)$$)`)
	item := fmt.Sprintf(`#feed li[data-id="%d"]`, f.refresh("odd"))
	withoutTime := fmt.Sprintf(`Array.from(
		document.querySelectorAll('%s :is(b, .matview, .count, .took, .id, .error, th, td, td i)'),
		node => node.tagName + ':' + node.textContent).sort().join('\n')`, item)
	b.do("wait for the live event", chromedp.WaitVisible(chromedp.CSS(item)))
	live := read(b, "look at it", chromedp.Evaluate[string](withoutTime))
	b.do("reload", chromedp.Navigate(f.server.URL+"/"), chromedp.WaitVisible(chromedp.CSS(item)))
	rendered := read(b, "look at it again", chromedp.Evaluate[string](withoutTime))
	if live != rendered {
		b.t.Errorf("live:\n%s\nas the server renders it:\n%s", live, rendered)
	}
	if !strings.Contains(live, "9007199254740993") || !strings.Contains(live, "null") {
		b.t.Errorf("the event lacks its values: %s", live)
	}

	f.exec(`create materialized view failing as select 1 / count(*) as n from sample`)
	f.exec(`select tinydevcrm.watch_matview('failing')`)
	f.exec(`truncate sample`)
	failed := fmt.Sprintf(`#feed li.failed[data-id="%d"]`, f.refresh("failing"))
	b.expect(failed+" .error", "division by zero")
	b.do("reload", chromedp.Navigate(f.server.URL+"/"))
	b.expect(failed+" .error", "division by zero")
	b.expect("#matviews .bad", "failing: division by zero")
	f.exec(`insert into sample select generate_series(0, 9)`)
}

func TestBrowserWithoutJavaScript(t *testing.T) {
	f := newFixture(t)
	b := newBrowser(t)
	b.do("switch JavaScript off", call(emulation.SetScriptExecutionDisabled,
		emulation.SetScriptExecutionDisabledParams{Value: true}))
	b.walk(f, b.press)

	later := f.refresh("sample_now")
	b.press("#feed-state a")
	b.expect(fmt.Sprintf(`#feed li:first-child[data-id="%d"] .count`, later), "1 row")
	later = f.refresh("sample_now")
	b.press("#feed-state a")
	b.expect(fmt.Sprintf(`#feed li:first-child[data-id="%d"] .count`, later), "1 row")

	b.press("#schedule .buttons button:nth-of-type(2)")
	b.expect("#schedule .done", "has been refreshed: 1 row")
	b.press("#schedule .buttons button:nth-of-type(3)")
	b.expect("#schedule .done", "View sample_now has no schedule any more.")

	// An error keeps what was filled in.
	b.do("write half a schedule", chromedp.SetValue(chromedp.CSS("#schedule-schedule"), "* * *"))
	b.press("#schedule .buttons button")
	b.expect("#schedule .problem", "is not a schedule")
	kept := read(b, "look at what is kept", chromedp.Value(chromedp.CSS("#schedule-schedule")))
	if kept != "* * *" {
		t.Errorf("the schedule is %q, want it as it was written", kept)
	}

	b.click("#schedule .danger summary")
	b.press("#schedule .drop")
	b.expect("#schedule .done", "View sample_now is dropped.")
	b.do("the view is gone", chromedp.WaitNotPresent(chromedp.CSS("#matviews [data-relation=sample_now]")))
	b.checkErrors()
}

// takeScreenshots checks that the page fits narrow screens, and keeps what it looks like in the
// folder that TINYDEVCRM_SHOTS names, if it does.
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
			b.do("switch the colours", call(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
				Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
			}))
			picture := read(b, "take a screenshot", chromedp.FullScreenshot(100))
			path := filepath.Join(folder, fmt.Sprintf("%s-%d-%s.png", name, width, scheme))
			if err := os.WriteFile(path, picture, 0o644); err != nil {
				b.t.Fatal(err)
			}
		}
	}
	b.do("back to a wide screen", chromedp.ResetViewport())
}
