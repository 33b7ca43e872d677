package kit

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// A List is what a URL asks of a list: a part of the names, an order, a page.
type List struct {
	// Search is a part of the names.
	Search string
	// Sort is the column by which the list is sorted, one of those that it can be sorted by; empty for its own order.
	Sort         string
	IsDescending bool
	// Number is the page, from 1. Size is how many entries a page has.
	Number, Size int
	// HasMore means that a further page follows. Count is the number of all entries; 0 when it is not known.
	HasMore bool
	Count   int64

	address url.URL
}

// ListOf reads the parameters search, sort and page of a URL. sorts are the columns that it can be sorted by.
func ListOf(address *url.URL, size int, sorts ...string) List {
	values := address.Query()
	list := List{Search: values.Get("search"), Size: size, Number: 1, address: *address}
	if number, err := strconv.Atoi(values.Get("page")); err == nil && number > 1 && number <= 1_000_000 {
		list.Number = number
	}
	sort, isDescending := strings.CutPrefix(values.Get("sort"), "-")
	if slices.Contains(sorts, sort) {
		list.Sort, list.IsDescending = sort, isDescending
	}
	return list
}

// Offset is how many entries come before the page, and Limit how many to read: one more than it shows.
func (l List) Offset() int { return (l.Number - 1) * l.Size }
func (l List) Limit() int  { return l.Size + 1 }

// Cut returns the entries of the page, and notes whether there are more.
func Cut[T any](list *List, entries []T) []T {
	list.HasMore = len(entries) > list.Size
	return entries[:min(len(entries), list.Size)]
}

// With is the URL of the list with another value of a parameter, and its first page.
func (l List) With(name, value string) string {
	values := l.address.Query()
	values.Del("page")
	values.Set(name, value)
	if value == "" {
		values.Del(name)
	}
	return l.URL(values)
}

// At is the URL of another page.
func (l List) At(number int) string {
	values := l.address.Query()
	values.Set("page", strconv.Itoa(number))
	if number <= 1 {
		values.Del("page")
	}
	return l.URL(values)
}

// Previous and Next are the URLs of the pages beside this one; empty for none.
func (l List) Previous() string {
	if l.Number <= 1 {
		return ""
	}
	return l.At(l.Number - 1)
}

func (l List) Next() string {
	if !l.HasMore {
		return ""
	}
	return l.At(l.Number + 1)
}

// URL is the URL of the list with these parameters.
func (l List) URL(values url.Values) string {
	if len(values) == 0 {
		return l.address.EscapedPath()
	}
	return l.address.EscapedPath() + "?" + values.Encode()
}

// A SortHead is the head of a column that sorts the list.
type SortHead struct {
	Label, URL string
	// Order is ascending or descending for the column that the list is sorted by.
	Order string
	// IsNumber means that it is at the right, as the numbers below it are.
	IsNumber bool
}

// Number is the head of a column of numbers.
func (h SortHead) Number() SortHead {
	h.IsNumber = true
	return h
}

// Head is the head of a column, for the template "sorthead".
func (l List) Head(column, label string) SortHead {
	head := SortHead{Label: label, URL: l.With("sort", column)}
	if l.Sort != column {
		return head
	}
	head.Order = "descending"
	if !l.IsDescending {
		head.Order, head.URL = "ascending", l.With("sort", "-"+column)
	}
	return head
}

// Others are the parameters of the URL but these, as hidden fields of a form that changes these.
func (l List) Others(but ...string) url.Values {
	values := l.address.Query()
	values.Del("page")
	for _, name := range but {
		values.Del(name)
	}
	return values
}
