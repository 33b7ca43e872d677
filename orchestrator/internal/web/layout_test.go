package web_test

import (
	"testing"

	"github.com/chromedp/chromedp"
)

// The head of a column of numbers is above them. A short value is on one line. What belongs apart is apart.
func TestLayout(t *testing.T) {
	f := newFixtureIn(t, "shop")
	f.useForAWhile()
	f.exec(`create table shop.wide as
		select i as id, date '2026-01-01' + i as due, repeat('a note that goes on ', 20) as note, timestamp '2026-01-01 10:00' as at,
		       'someone@example.com' as mail, 'Customer ' || i as customer, 'open' as status, 1.5 as amount, 'EUR' as currency
		  from generate_series(1, 20) as i`)
	paths := f.shopPaths()
	paths["wide"], paths["wide columns"] = "/tables/shop.wide", "/tables/shop.wide/columns"
	b := newBrowser(t)
	b.do("a usual screen", chromedp.EmulateViewport(1280, 900))
	for name, path := range paths {
		b.do("open "+path, chromedp.Navigate(f.server.URL+path))
		for what, script := range map[string]string{
			"a head is not above its numbers": `[...document.querySelectorAll('main table')].flatMap(table =>
				[...table.querySelectorAll('thead tr:first-child th')].filter(head => {
					const cells = [...table.querySelectorAll('tbody tr')].map(row => row.children[head.cellIndex]).filter(Boolean);
					return cells.length && cells.every(cell => cell.matches('.number')) && getComputedStyle(head).textAlign !== 'right';
				})).map(head => head.textContent).join()`,
			"a date is broken": `[...document.querySelectorAll('.data td')].filter(cell => /^[\d-]{10}$/.test(cell.textContent)).filter(cell => {
					const range = document.createRange();
					range.selectNodeContents(cell);
					return range.getClientRects().length > 1;
				}).length || ''`,
			"a button touches what is above": `[...document.querySelectorAll('main .buttons')].filter(buttons => {
					const before = buttons.previousElementSibling;
					const above = before?.matches('[type=hidden]') ? buttons.closest('form').previousElementSibling : before;
					const last = above?.lastElementChild?.matches('.legend') ? above.lastElementChild : above;
					const box = last?.getBoundingClientRect();
					return box?.height && !last.matches('[hidden], .fields') && Math.abs(buttons.getBoundingClientRect().top - box.bottom) < 4;
				}).length || ''`,
			"a filter widens its column": `[...document.querySelectorAll('.data')].some(table => table.querySelector('.filter') && [...table.querySelectorAll('thead tr:first-child th')].some((head, i) => {
					const texts = [head, ...[...table.querySelectorAll('tbody tr')].map(row => row.children[i])].filter(Boolean).map(cell => {
						const range = document.createRange();
						range.selectNodeContents(cell);
						return range.getBoundingClientRect().width;
					});
					return table.scrollWidth > table.parentElement.clientWidth && head.clientWidth > Math.max(120, 50 + Math.max(...texts));
				})) || ''`,
			"a number is broken": `[...document.querySelectorAll('td.number')].some(cell => {
					const range = document.createRange();
					range.selectNodeContents(cell);
					return !cell.children.length && /^[\d,.]+$/.test(cell.textContent) && new Set([...range.getClientRects()].map(box => Math.round(box.bottom / 8))).size > 1;
				}) || ''`,
			"a column is beyond the edge": `location.pathname.endsWith('/columns') && [...document.querySelectorAll('.scroll')].some(box => box.scrollWidth > box.clientWidth) || ''`,
		} {
			if found := read(b, what, chromedp.Evaluate[any](script)); found != "" {
				t.Errorf("%s: %s: %v", name, what, found)
			}
		}
	}
}
