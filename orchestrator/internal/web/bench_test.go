package web_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

// BenchmarkPage prints what scripts/bench page is for: how long the first view of a page takes that is
// served at TINYDEVCRM_BENCH_URL, and what a browser loads for it.
func BenchmarkPage(b *testing.B) {
	address := os.Getenv("TINYDEVCRM_BENCH_URL")
	if address == "" {
		b.Fatal("TINYDEVCRM_BENCH_URL is not set: it is the URL of the page. scripts/bench page serves one.")
	}
	// A connection of its own for each, as the first view has.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	tab := newBrowser(b)
	tab.do("keep nothing", call(network.SetCacheDisabled, network.SetCacheDisabledParams{CacheDisabled: true}))

	var answered, loaded, sizes []float64
	for b.Loop() {
		answered = append(answered, timeAnswer(b, client, address))

		tab.do("open the page", chromedp.Navigate(address), chromedp.Poll[chromedp.Void](
			`performance.getEntriesByType('navigation')[0].loadEventEnd > 0`))
		loaded = append(loaded, read(tab, "take its time", chromedp.Evaluate[float64](
			`performance.getEntriesByType('navigation')[0].loadEventEnd`)))
		sizes = append(sizes, read(tab, "take its size", chromedp.Evaluate[float64](
			`performance.getEntries().reduce((sum, entry) => sum + (entry.transferSize || 0), 0)`)))
	}
	fmt.Printf("%-44s %8.0f ms  wanted: under 300 ms\n", "first view, to the last byte of the page", median(answered))
	fmt.Printf("%-44s %8.0f ms  wanted: under 300 ms\n", "first view, to the load event of Chromium", median(loaded))
	fmt.Printf("%-44s %8.0f kB  wanted: under 100 kB\n", "page, scripts, styles and pictures", median(sizes)/1000)
}

// timeAnswer is how many milliseconds it takes until the whole page has come.
func timeAnswer(b *testing.B, client *http.Client, address string) float64 {
	began := time.Now()
	answer, err := client.Get(address)
	if err != nil {
		b.Fatal(err)
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil || answer.StatusCode != http.StatusOK {
		b.Fatalf("%s: %s, %v", address, answer.Status, err)
	}
	return time.Since(began).Seconds() * 1000
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}
