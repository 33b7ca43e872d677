package web_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// click clicks an element where it stays: once nothing is being loaded that could move or replace it.
func (b *browser) click(selector string) {
	b.t.Helper()
	b.settle(selector)
	b.clickAtOnce(selector)
}

// clickAtOnce clicks an element while the page still loads something.
func (b *browser) clickAtOnce(selector string) {
	b.t.Helper()
	b.do("click "+selector, clickOn(selector))
}

// press clicks what leads to another page, and waits for that page.
func (b *browser) press(selector string) {
	b.t.Helper()
	b.settle(selector)
	read(b, "press "+selector, chromedp.WaitEvent(page.LoadEventFired, nil, clickOn(selector)))
}

// settle waits until nothing is being loaded and the element can be used.
func (b *browser) settle(selector string) {
	b.t.Helper()
	for end := time.Now().Add(deadline); ; time.Sleep(10 * time.Millisecond) {
		b.mu.Lock()
		loading := slices.Collect(maps.Values(b.loading))
		b.mu.Unlock()
		if len(loading) == 0 {
			break
		}
		if time.Now().After(end) {
			b.t.Fatalf("%s cannot be used: the page still loads %s", selector, loading)
		}
	}
	b.waitFor(selector+" can be used", fmt.Sprintf(
		`(node => node?.getClientRects().length && !node.disabled)(document.querySelector(%q))`, selector))
}

// A place is where the middle of an element is. It is Reached when a click there hits the element, and Pressed while the
// mouse is pressed on it.
type place struct {
	X, Y             float64
	Reached, Pressed bool
}

// find scrolls to an element if it has to.
const find = `(node => {
	const middle = () => (box => box && { X: box.x + box.width / 2, Y: box.y + box.height / 2 })(node?.getClientRects()[0]);
	const isReached = at => node.contains(document.elementFromPoint(at.X, at.Y));
	let at = middle();
	if (at && !isReached(at)) {
		node.scrollIntoView({ block: 'center', behavior: 'instant' });
		at = middle();
	}
	return at ? { ...at, Reached: isReached(at), Pressed: node.matches(':active') } : null;
})(document.querySelector(%q))`

// clickOn clicks the middle of an element that does not move. The button of the mouse is released elsewhere, and the
// click tried again, if the page has moved meanwhile.
func clickOn(selector string) chromedp.Action[chromedp.Void] {
	look := chromedp.Evaluate[*place](fmt.Sprintf(find, selector))
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		for {
			at, err := look(ctx, target)
			for last := (*place)(nil); err == nil && (at == nil || last == nil || *last != *at || !at.Reached); {
				if _, err = chromedp.Sleep(20*time.Millisecond)(ctx, target); err == nil {
					last = at
					at, err = look(ctx, target)
				}
			}
			if err != nil {
				return fmt.Errorf("%w: it was last seen at %+v", err, at)
			}
			mouse := func(kind input.DispatchMouseEventType, x, y float64) error {
				_, err := chromedp.MouseEvent(kind, x, y, chromedp.ButtonLeft, chromedp.ClickCount(1))(ctx, target)
				return err
			}
			if err := mouse(chromedp.MousePressed, at.X, at.Y); err != nil {
				return err
			}
			pressed, err := look(ctx, target)
			if err != nil {
				return err
			}
			if pressed != nil && pressed.Pressed && pressed.X == at.X && pressed.Y == at.Y {
				return mouse(chromedp.MouseReleased, at.X, at.Y)
			}
			if err := mouse(chromedp.MouseReleased, 0, 0); err != nil {
				return err
			}
		}
	})
}

// A button that moves, and then again when something has been loaded, is clicked once it has come to rest.
func TestClickWaitsForWhatMoves(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			<-time.After(300 * time.Millisecond)
			return
		}
		fmt.Fprint(w, `<!doctype html><link rel="icon" href="data:,"><button style="position: absolute">Go</button><output>clicked: </output><script>
			const button = document.querySelector('button');
			const move = frames => {
				button.style.left = frames * 97 % 700 + 'px';
				if (frames) requestAnimationFrame(() => move(frames - 1));
			};
			document.addEventListener('click', event => document.querySelector('output').append(event.target.tagName));
			move(60);
			fetch('/late').then(() => move(60));
		</script>`)
	}))
	t.Cleanup(server.Close)
	b := newBrowser(t)
	b.do("open the page", chromedp.Navigate(server.URL))
	b.click("button")
	b.expect("output", "BUTTON")
	if clicked := b.text("output"); strings.Count(clicked, "BUTTON") != 1 {
		t.Errorf("it is clicked more than once: %s", clicked)
	}
}
