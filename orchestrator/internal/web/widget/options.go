package widget

import (
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

const (
	maxLabel      = 200
	maxWidgetRows = 1000
)

// options are the settings of the embedding page for a widget: the query part of its address.
type options struct {
	IsNumber bool
	// Label is the heading.
	Label string
	// Theme is dark, light, or empty for the reader's preference.
	Theme   string
	Palette palette

	rowLimit int
}

// A palette is colours that replace those of the theme, as hexadecimal digits. An empty one does not replace
// any.
type palette struct{ Back, Text, Accent string }

// parseOptions refuses unknown parameters, so that the author of an address notices a mistake in it.
func parseOptions(query string) (options, error) {
	found := options{rowLimit: maxWidgetRows}
	values, err := url.ParseQuery(query)
	if err != nil {
		return found, badOption("the address cannot be read: "+err.Error(), "")
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if len(values[name]) > 1 {
			return found, badOption(fmt.Sprintf("%q is there twice", name), "")
		}
		if err := found.set(name, values.Get(name)); err != nil {
			return found, err
		}
	}
	return found, nil
}

func (o *options) set(name, value string) error {
	isOne := func(words ...string) bool { return slices.Contains(words, value) }
	hint := ""
	switch name {
	case "as":
		o.IsNumber = value == "number"
		if !isOne("table", "number") {
			hint = "Write table or number."
		}
	case "theme":
		o.Theme = value
		if !isOne("dark", "light") {
			hint = "Write dark or light. Without it, the reader's preference is used."
		}
	case "label":
		o.Label = value
		if !utf8.ValidString(value) || utf8.RuneCountInString(value) > maxLabel {
			hint = fmt.Sprintf("Write a text of at most %d characters.", maxLabel)
		}
	case "rows":
		number, err := strconv.Atoi(value)
		o.rowLimit = number
		if err != nil || number < 1 || number > maxWidgetRows {
			hint = fmt.Sprintf("Write a number from 1 to %d.", maxWidgetRows)
		}
	case "back":
		o.Palette.Back, hint = value, hintOfColour(value)
	case "text":
		o.Palette.Text, hint = value, hintOfColour(value)
	case "accent":
		o.Palette.Accent, hint = value, hintOfColour(value)
	default:
		return badOption(fmt.Sprintf("there is no parameter %q", name),
			"The parameters are as, label, rows, theme, back, text and accent.")
	}
	if hint != "" {
		return badOption(fmt.Sprintf("%q cannot be %q", name, value), hint)
	}
	return nil
}

func badOption(message, hint string) error {
	return &db.UserError{Status: http.StatusBadRequest, Message: message, Hint: hint}
}

// hintOfColour is the hint for an invalid colour.
func hintOfColour(value string) string {
	if (len(value) == 3 || len(value) == 6) && strings.Trim(value, "0123456789abcdefABCDEF") == "" {
		return ""
	}
	return "A colour is three or six hexadecimal digits, such as fdf6e3."
}

// Address is the URL of the stylesheet with these colours, because the policy allows no style in the page
// itself. It is empty when there are none.
func (p palette) Address() string {
	if p == (palette{}) {
		return ""
	}
	values := url.Values{}
	for name, colour := range map[string]string{"back": p.Back, "text": p.Text, "accent": p.Accent} {
		if colour != "" {
			values.Set(name, colour)
		}
	}
	return "/theme.css?" + values.Encode()
}

// serveTheme serves a stylesheet with the colours in its address and nothing else.
func (s *server) serveTheme(w http.ResponseWriter, r *http.Request) {
	given, err := parseOptions(r.URL.RawQuery)
	if err == nil && given != (options{Palette: given.Palette, rowLimit: maxWidgetRows}) {
		err = badOption("a stylesheet has only colours", "The parameters are back, text and accent.")
	}
	if err != nil {
		s.site.WriteProblem(w, r, err)
		return
	}
	w.Header().Set("Cache-Control", "public, max-age=86400")
	s.site.Write(w, r, http.StatusOK, "text/css; charset=utf-8", []byte(given.Palette.css()))
}

// css overrides embed.css. It derives the colours that are not given, because those of embed.css might not fit:
// text stays readable on a given background, and a background below a given text.
func (p palette) css() string {
	back, text, accent := digits(p.Back), digits(p.Text), digits(p.Accent)
	switch {
	case back == "" && text != "":
		back = opposite(text)
	case back != "" && text == "":
		text = opposite(back)
	}
	if accent == "" {
		accent = text
	}

	var css strings.Builder
	css.WriteString(":root:root {")
	if back != "" {
		fmt.Fprintf(&css, " --back: #%[1]s; --text: #%[2]s; --strong: #%[2]s; --weak: #%[2]s; --line: #%[2]s40;", back, text)
	}
	if accent != "" {
		fmt.Fprintf(&css, " --accent: #%s;", accent)
	}
	css.WriteString(" }\n")
	return css.String()
}

// digits writes a colour with six digits.
func digits(colour string) string {
	if len(colour) != 3 {
		return colour
	}
	return fmt.Sprintf("%[1]c%[1]c%[2]c%[2]c%[3]c%[3]c", colour[0], colour[1], colour[2])
}

// opposite is black or white, whichever has the greater contrast with a colour. By the contrast of WCAG 2, one
// of them has at least 4.5 on any colour.
func opposite(colour string) string {
	number, _ := strconv.ParseUint(colour, 16, 32)
	luminance := 0.2126*linear(number>>16) + 0.7152*linear(number>>8&0xff) + 0.0722*linear(number&0xff)
	if (luminance+0.05)/0.05 > 1.05/(luminance+0.05) {
		return "000000"
	}
	return "ffffff"
}

// linear is how much light a component of a colour gives, from 0 to 1.
func linear(part uint64) float64 {
	share := float64(part) / 255
	if share <= 0.04045 {
		return share / 12.92
	}
	return math.Pow((share+0.055)/1.055, 2.4)
}
