package binary_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/binary"
)

// A number that is handed over is written as its text is.
func TestDecimalsAreThoseOfTheirTexts(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(25, 9))
	numbers := []int64{0, 1, -1, 9, 10, 9999, 10000, -10001, 99999999, math.MaxInt64, math.MinInt64, 1e18}
	for range 20_000 {
		numbers = append(numbers, r.Int64()>>r.IntN(63), -(r.Int64() >> r.IntN(63)))
	}
	for _, number := range numbers {
		for scale := range binary.MaxScale + 1 {
			digits := fmt.Sprintf("%0*d", scale+1, uint64(max(number, -number)))
			if number == math.MinInt64 {
				digits = "9223372036854775808"
			}
			text := digits[:len(digits)-scale]
			if scale > 0 {
				text += "." + digits[len(digits)-scale:]
			}
			if number < 0 {
				text = "-" + text
			}
			want, _ := binary.Numeric.Append(nil, []byte(text))
			if got := binary.AppendDecimal(nil, number, scale); string(got) != string(want) {
				t.Fatalf("%d with scale %d is %x, %s is %x", number, scale, got, text, want)
			}
		}
	}
}
