package workbook_test

import (
	"os"
	"strings"
	"testing"
)

// Workbooks by openpyxl and LibreOffice: see testdata/README.md. Those of openpyxl have formulas without values.
func TestWorkbooksOfOtherPrograms(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"openpyxl.xlsx", "openpyxl-1904.xlsx", "libreoffice.xlsx", "libreoffice-1904.xlsx"} {
		file, err := os.ReadFile("testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		lines, err := readAll(file, "")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		isCalculated := strings.HasPrefix(name, "libreoffice")
		// What a formula makes, and the digits that the program keeps of a long integer.
		result := func(value, place string) (text, fault string) {
			if isCalculated {
				return value, ""
			}
			return "null", "a formula without a value in " + place
		}
		twice, fault4 := result(`"2"`, "H4")
		again, fault5 := result(`"4"`, "H5")
		joined, fault6 := result(`,"Ash \u0026 Söhne!"`, "H6")
		long := map[bool]string{true: "1152921504606850000", false: "1152921504606847000"}[isCalculated]
		want := []string{
			`{"Row":1,"Cells":["Orders of January"],"Fault":""}`,
			`{"Row":3,"Cells":["id","name","day","at","time","share","price","twice","paid"],"Fault":""}`,
			`{"Row":4,"Cells":["1","Ash \u0026 Söhne","2024-01-31","2024-01-31 10:30:00.5","09:15:00","0.25","1.1",` + twice + `,"true"],"Fault":"` + fault4 + `"}`,
			`{"Row":5,"Cells":["2","007","1904-02-29","2024-02-01 00:00:00","23:59:59","1","-0.03",` + again + `,"false"],"Fault":"` + fault5 + `"}`,
			`{"Row":6,"Cells":["` + long + `"," x ",null,null,null,null,"0.0000001"` + strings.TrimPrefix(joined, "null") + `],"Fault":"` + fault6 + `"}`,
		}
		for i, line := range lines {
			if got := shown(line); i >= len(want) || got != want[i] {
				t.Errorf("%s: %s, want %s", name, got, want[min(i, len(want)-1)])
			}
		}
		if len(lines) != len(want) {
			t.Errorf("%s: %d rows", name, len(lines))
		}
	}
}
