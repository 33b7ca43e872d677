package web_test

import (
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
)

// elsewhere serves a page that embeds what its query names, from another site than the widget's, and returns
// its origin.
func elsewhere(t *testing.T, isIsolated bool) string {
	t.Helper()
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		if isIsolated {
			w.Header().Set("Cross-Origin-Embedder-Policy", "require-corp")
		}
		fmt.Fprint(w, `<!doctype html><html lang="en"><title>elsewhere</title><link rel="icon" href="data:,">`)
		for _, src := range r.URL.Query()["src"] {
			fmt.Fprintf(w, `<iframe src="%s" title="widget" width="480" height="240"></iframe>`, html.EscapeString(src))
		}
	}))
	t.Cleanup(site.Close)
	return strings.Replace(site.URL, "127.0.0.1", "localhost", 1)
}

// frame returns the browser context of a frame with this URL: Chromium keeps frames of other sites separate.
func (b *browser) frame(src string) *browser {
	b.t.Helper()
	for end := time.Now().Add(deadline); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		targets, err := chromedp.Targets(b.ctx)
		if err != nil {
			b.t.Fatal(err)
		}
		for _, info := range targets {
			if info.Type == "iframe" && info.URL == src {
				ctx, cancel := chromedp.NewContext(b.ctx, chromedp.WithTargetID(info.TargetID))
				b.t.Cleanup(cancel)
				// The frame belongs to the context of the first action, so this has no deadline.
				if err := chromedp.Do(ctx); err != nil {
					b.t.Fatalf("enter the frame of %s: %v", src, err)
				}
				return &browser{t: b.t, ctx: ctx}
			}
		}
	}
	b.t.Fatalf("there is no frame of %s", src)
	return nil
}

// takeErrors returns the messages in the console, and clears them.
func (b *browser) takeErrors() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	said := strings.Join(b.errors, "\n")
	b.errors = nil
	return said
}

func TestWidgetOnAnotherSite(t *testing.T) {
	f := newFixture(t)
	b := newBrowser(t)
	f.exec("create table numbers as select n, 'row ' || n as name from generate_series(1, 3) as n")
	f.watch("v", "select * from numbers order by n")
	allowed, isolated, refused := elsewhere(t, false), elsewhere(t, true), elsewhere(t, false)
	f.exec(`select tinydevcrm.allow_embedding('v', array[$1, $2])`, allowed, isolated)
	src := f.server.URL + f.embedPath("v")

	b.do("open an allowed page", chromedp.Navigate(allowed+"/?src="+src+"&src="+src+"%3Fas=number%26label=Least"))
	table, number := b.frame(src), b.frame(src+"?as=number&label=Least")
	table.expect("#rows tr:nth-child(3) td:nth-child(2)", "row 3")
	number.expect("#number", "1")
	number.expect("h1", "Least")

	table.do("mark what is to stay", chromedp.Evaluate[chromedp.Void](`document.querySelector('h1').dataset.stays = 'yes'`))
	f.exec("update numbers set n = n + 40")
	f.refresh("v")
	table.waitFor("the table is brought up to date", `document.querySelector('#rows td').textContent === '41'`)
	number.waitFor("the number is brought up to date", `document.querySelector('#number').textContent === '41'`)
	stays := read(table, "look whether it stayed", chromedp.Evaluate[string](`document.querySelector('h1').dataset.stays`))
	if stays != "yes" {
		t.Error("more was put in place than had changed")
	}

	f.exec(`select tinydevcrm.forbid_embedding('v')`)
	number.waitFor("the end is shown", `document.querySelector('#problem')?.textContent.includes('no public view')`)
	f.exec(`select tinydevcrm.allow_embedding('v', array[$1, $2])`, allowed, isolated)
	number.waitFor("and the beginning", `document.querySelector('#number')?.textContent === '41'`)
	// The 404 above is in the console, as expected.
	b.takeErrors()

	b.do("open an isolated page", chromedp.Navigate(isolated+"/?src="+src))
	b.frame(src).expect("#rows td", "41")
	b.checkErrors()

	b.do("open a page that is not allowed", chromedp.Navigate(refused+"/?src="+src))
	end := time.Now().Add(deadline)
	for said := ""; !strings.Contains(said, "frame-ancestors"); said += b.takeErrors() {
		if time.Now().After(end) {
			t.Fatalf("Chromium does not refuse it: %s", said)
		}
		time.Sleep(50 * time.Millisecond)
	}
	targets, err := chromedp.Targets(b.ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, info := range targets {
		if info.Type == "iframe" && info.URL == src && b.isRendered(info) {
			t.Errorf("a page that is not allowed shows %s", info.URL)
		}
	}
}

func (b *browser) isRendered(info *target.Info) bool {
	ctx, cancel := chromedp.NewContext(b.ctx, chromedp.WithTargetID(info.TargetID))
	defer cancel()
	inside := &browser{t: b.t, ctx: ctx}
	return read(inside, "look into it", chromedp.Evaluate[bool](`document.querySelector('#rows') !== null`))
}

// While the server is away, the widget says so in a few words. It continues by itself.
func TestWidgetOutlivesItsServer(t *testing.T) {
	f := newFixture(t)
	b := newBrowser(t)
	f.watch("v", "select 1 as n, 'x' as text")
	f.exec(`select tinydevcrm.allow_embedding('v', '{*}')`)
	b.do("open the widget", chromedp.Navigate(f.server.URL+f.embedPath("v")))
	b.expect("#rows td", "1")
	b.checkErrors()
	b.takeScreenshots("widget")
	f.isAway.Store(true)
	b.waitFor("it says that the server is away", `!document.querySelector('#silence').hidden`)
	b.expect("#rows td", "1")
	f.isAway.Store(false)
	b.waitFor("it hears it again", `document.querySelector('#silence').hidden`)

	for _, query := range []string{"?as=number&label=Orders", "?theme=light", "?back=fdf6e3&text=073642&accent=b3201d", "?rows=x"} {
		b.do("open it otherwise", chromedp.Navigate(f.server.URL+f.embedPath("v")+query))
		b.takeScreenshots("widget-" + strings.Trim(strings.ReplaceAll(query, "&", "-"), "?"))
	}
}

func TestWidgetWithoutJavaScript(t *testing.T) {
	f := newFixture(t)
	b := newBrowser(t)
	f.watch("v", "select 1 as n")
	f.exec(`select tinydevcrm.allow_embedding('v', '{*}')`)
	b.do("switch JavaScript off", call(emulation.SetScriptExecutionDisabled,
		emulation.SetScriptExecutionDisabledParams{Value: true}))
	b.do("open the widget", chromedp.Navigate(f.server.URL+f.embedPath("v")))
	b.expect("#rows td", "1")
	b.checkErrors()
}
