package dialect

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/ianaindex"
	textunicode "golang.org/x/text/encoding/unicode"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

// Decode converts text to UTF-8. isDecoded means that it was in another encoding.
func Decode(text io.Reader, name string) (decoded io.Reader, isDecoded bool, err error) {
	var from encoding.Encoding
	switch strings.ReplaceAll(strings.ToUpper(name), "-", "") {
	case "UTF8":
		return text, false, nil
	case "UTF16LE":
		from = textunicode.UTF16(textunicode.LittleEndian, textunicode.UseBOM)
	case "UTF16BE":
		from = textunicode.UTF16(textunicode.BigEndian, textunicode.UseBOM)
	default:
		from, err = ianaindex.IANA.Encoding(ianaName(name))
	}
	if err != nil || from == nil {
		return nil, false, &db.UserError{
			Status:  http.StatusUnprocessableEntity,
			Code:    "TD007",
			Message: fmt.Sprintf("there is no encoding %q", name),
			Hint:    "Some of them are UTF8, LATIN1, WIN1252, SJIS, EUC-KR, GBK.",
		}
	}
	return from.NewDecoder().Reader(text), true, nil
}

// ianaName is the registered name of an encoding for which PostgreSQL has another name.
func ianaName(name string) string {
	upper := strings.ToUpper(name)
	number, isWindows := strings.CutPrefix(upper, "WIN")
	switch {
	case upper == "WIN866":
		return "IBM866"
	case isWindows && !strings.HasPrefix(upper, "WINDOWS"):
		return "windows-" + number
	case upper == "SJIS":
		return "Shift_JIS"
	case upper == "LATIN9":
		return "ISO-8859-15"
	case upper == "KOI8R" || upper == "KOI8U":
		return upper[:4] + "-" + upper[4:]
	case strings.HasPrefix(upper, "EUC_") || strings.HasPrefix(upper, "ISO_8859_"):
		return strings.ReplaceAll(upper, "_", "-")
	}
	return name
}

// decodeSample converts a sample to UTF-8, without a last character that its end has cut.
func decodeSample(sample []byte, name string) (string, error) {
	reader, isDecoded, err := Decode(bytes.NewReader(sample), name)
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(reader)
	if err != nil {
		return "", err
	}
	if isDecoded {
		return strings.TrimSuffix(string(text), "\uFFFD"), nil
	}
	return string(withoutCut(text)), nil
}

// withoutCut is text without a last character of which bytes are missing.
func withoutCut(text []byte) []byte {
	for back := 1; back < min(utf8.UTFMax, len(text)+1); back++ {
		if at := len(text) - back; utf8.RuneStart(text[at]) {
			if !utf8.FullRune(text[at:]) {
				return text[:at]
			}
			break
		}
	}
	return text
}

// A candidate is an encoding that a file without a byte order mark may have.
type candidate struct {
	name string
	// alphabets are the letters beside a to z of some languages; nil for an encoding of ideographs.
	alphabets []string
	// leads are the first bytes of frequent ideographs.
	leads [2]byte
}

func candidates() []candidate {
	latin := []string{"äöüß", "éèêëàâçîïôûùœæ", "áéíóúñü", "àèéìòù", "ãõáéíóúâêôàç", "åäöæøé", "ëïéèöü"}
	central := []string{"áčďéěíňóřšťúůýž", "ąćęłńóśźż", "áéíóöőúüű", "ăâîșțşţ", "čćđšž", "áäčďéíľĺňóôŕšťúýž"}
	cyrillic := []string{"абвгдежзийклмнопрстуфхцчшщъыьэюяё", "абвгґдеєжзиіїйклмнопрстуфхцчшщьюя"}
	return []candidate{
		{name: "WIN1252", alphabets: latin}, {name: "WIN1250", alphabets: central},
		{name: "WIN1251", alphabets: cyrillic}, {name: "MACINTOSH", alphabets: latin},
		{name: "SJIS", leads: [2]byte{136, 151}}, {name: "GBK", leads: [2]byte{176, 215}},
	}
}

// guessEncoding finds the encoding of a text without a byte order mark: UTF-8 when it is that, UTF-16 by its zeros,
// else that one in which the text has the letters of one language, and capitals only where words begin. The warning
// says when two are about as likely.
func guessEncoding(sample []byte) (name, warning string) {
	if name := findUTF16(sample); name != "" {
		return name, ""
	}
	// A bad byte among more good characters is a bad line, not another encoding.
	bad, good := 0, 0
	for _, r := range string(withoutCut(sample)) {
		if r == utf8.RuneError {
			bad++
		} else if r >= utf8.RuneSelf {
			good++
		}
	}
	if good >= bad {
		return "UTF8", ""
	}

	type fit struct {
		share      float64
		name, text string
	}
	var fits []fit
	for _, c := range candidates() {
		text, err := decodeSample(sample[:min(len(sample), searched)], c.name)
		if err != nil {
			continue
		}
		share := c.share(text)
		if c.name == "WIN1252" {
			share += 0.05
		}
		fits = append(fits, fit{share, c.name, text})
	}
	slices.SortStableFunc(fits, func(a, b fit) int {
		switch {
		case a.share > b.share:
			return -1
		case a.share < b.share:
			return 1
		}
		return 0
	})
	best := fits[0]
	if best.share < 0.6 {
		best = fits[slices.IndexFunc(fits, func(f fit) bool { return f.name == "WIN1252" })]
	}
	// Some encodings have the same letters in the same places.
	second := slices.IndexFunc(fits, func(f fit) bool { return f.text != best.text })
	if second >= 0 && (best.share < 0.8 || best.share-fits[second].share < 0.2) {
		warning = fmt.Sprintf("the encoding is a guess: %s, or else %s", best.name, fits[second].name)
	}
	return best.name, warning
}

// findUTF16 names the UTF-16 in which every second byte of a text is mostly zero; empty when that is not so.
func findUTF16(sample []byte) string {
	var zeros [2]int
	for i, b := range sample {
		if b == 0 {
			zeros[i%2]++
		}
	}
	size := float64(len(sample) / 2)
	switch {
	case size < 2 || float64(max(zeros[0], zeros[1])) <= 0.4*size || float64(min(zeros[0], zeros[1])) >= 0.05*size:
		return ""
	case zeros[1] > zeros[0]:
		return "UTF16LE"
	}
	return "UTF16BE"
}

const symbols = "€£¥§°«»‘’“”„–—…·®©™²³½¼¾ªº¡¿№\u00a0"

// isLetter reports whether a character is one of words, which digits are not.
func isLetter(r rune) bool { return unicode.IsLetter(r) || unicode.IsNumber(r) && !unicode.IsDigit(r) }

// share is the share of the characters beyond ASCII that are usual in a language of the encoding.
func (c candidate) share(text string) float64 {
	if c.alphabets == nil {
		return c.shareOfIdeographs(text)
	}
	return c.shareOfLetters(text)
}

// shareOfLetters is the share of the characters beyond ASCII that fit the language which fits best.
func (c candidate) shareOfLetters(text string) float64 {
	runes := []rune(text)
	marks, fitting := 0, 0
	letters := make([]int, len(c.alphabets))
	for i, r := range runes {
		if r < utf8.RuneSelf {
			continue
		}
		marks++
		if strings.ContainsRune(symbols, r) && !(i > 0 && i+1 < len(runes) && isLetter(runes[i-1]) && isLetter(runes[i+1])) {
			fitting++
		}
		for language, alphabet := range c.alphabets {
			if strings.ContainsRune(alphabet, unicode.ToLower(r)) {
				letters[language]++
			}
		}
	}
	if marks == 0 {
		return 0
	}
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return !isLetter(r) }) {
		if isOdd(word) {
			fitting--
		}
	}
	return max(0, float64(slices.Max(letters)+fitting)/float64(marks))
}

// isOdd reports whether a word with characters beyond ASCII has a capital after a small letter, or Latin beside
// Cyrillic letters.
func isOdd(word string) bool {
	var isBeyond, isLatin, isCyrillic, hasLower, hasUpper, isMixed, isInWord bool
	for _, r := range word {
		isBeyond = isBeyond || r >= utf8.RuneSelf
		isLatin = isLatin || r < utf8.RuneSelf
		isCyrillic = isCyrillic || unicode.Is(unicode.Cyrillic, r)
		isUpper, isLower := unicode.IsUpper(r), unicode.IsLower(r)
		// Like This: a capital first, and only small letters after it.
		isMixed = isMixed || isUpper && isInWord || isLower && !isInWord
		hasUpper, hasLower = hasUpper || isUpper, hasLower || isLower
		isInWord = isUpper || isLower
	}
	isOfOneCase := hasLower != hasUpper
	return isBeyond && (!isOfOneCase && (isMixed || !hasLower) || isLatin && isCyrillic)
}

// shareOfIdeographs is the share of the characters beyond ASCII that are frequent: kana, and the first level of the set.
func (c candidate) shareOfIdeographs(text string) float64 {
	from, err := ianaindex.IANA.Encoding(ianaName(c.name))
	if err != nil {
		return 0
	}
	encoder := from.NewEncoder()
	marks, common := 0, 0
	for _, r := range text {
		if r < utf8.RuneSelf {
			continue
		}
		marks++
		if '\u3000' <= r && r <= '\u30ff' || '\uff01' <= r && r <= '\uff5e' {
			common++
			continue
		}
		written, err := encoder.String(string(r))
		if err == nil && r != utf8.RuneError && len(written) == 2 && c.leads[0] <= written[0] && written[0] <= c.leads[1] {
			common++
		}
	}
	return float64(common) / float64(max(marks, 1))
}
