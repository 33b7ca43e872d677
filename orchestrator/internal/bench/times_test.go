package bench

import "testing"

func TestMedian(t *testing.T) {
	for _, test := range []struct {
		name   string
		values []float64
		want   float64
	}{
		{"one", []float64{7}, 7},
		{"odd, by value and not by place", []float64{9, 1, 2}, 2},
		{"even, between the two in the middle", []float64{8, 1, 4, 2}, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			first := test.values[0]
			if got := median(test.values); got != test.want {
				t.Errorf("median %v, want %v", got, test.want)
			}
			if test.values[0] != first {
				t.Error("the values are in another order now")
			}
		})
	}
}

// The table in the README is made of these lines.
func TestLines(t *testing.T) {
	taken := times{"copy": {2, 1, 9}, "upload": {3, 2.5, 4}}
	for want, got := range map[string]string{
		`orchestrator upload                              3.00 s   1.50 times  (2.500 to 4.000)`: taken.report("orchestrator upload", "upload", "copy"),
		`orchestrator upload                               333 rows/s   0.67 times`:              taken.rate("orchestrator upload", "upload", "copy", 1000),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
