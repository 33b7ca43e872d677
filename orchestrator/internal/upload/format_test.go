package upload_test

import (
	"strings"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/migrate"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
)

// Each type that stores a column while rows are loaded is sent in binary format. The server reads what it is given of
// other types.
func TestFormat(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	type rung struct {
		name string
		rank int64
	}
	rungs, err := db.Collect(t.Context(), pool, "read csv_types", func(r *rung) []any { return []any{&r.name, &r.rank} }, `
		select type_name, rank
		  from tinydevcrm.csv_types
		 where restores is not null`)
	if err != nil || len(rungs) < 30 {
		t.Fatalf("%d rungs, %v", len(rungs), err)
	}
	for _, r := range rungs {
		if !upload.IsBinary(r.name, &r.rank) {
			t.Errorf("%s goes by text", r.name)
		}
	}
	if !upload.IsBinary("text", nil) {
		t.Error("a given text goes by text")
	}
	for _, given := range []string{"boolean", "uuid", "varchar(5)", "json", "public.mood", "integer[]"} {
		if upload.IsBinary(given, nil) {
			t.Errorf("a given %s goes in binary format", given)
		}
	}
}

// Values of given types are read by the server, as it reads them everywhere.
func TestLoadGivenTypesAsTheServerReadsThem(t *testing.T) {
	_, got, err := loadWith(t, "type=b=boolean&type=u=uuid&type=v=varchar(3)&type=i=integer[]",
		"n,b,u,v,i\n1,on,{A0EEBC999C0B4EF8BB6D6BB9BD380A11},abc,\"{1,2}\"\n2, F ,a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11,d,{}\n")
	want := `[{"b": true, "i": [1, 2], "n": 1, "u": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "v": "abc"}, ` +
		`{"b": false, "i": [], "n": 2, "u": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "v": "d"}]`
	if err != nil || got != want {
		t.Errorf("got %s, %v", got, err)
	}
}

// A ladder may accept what the program cannot write. Then the server reads it.
func TestLoadWhatCannotBeWritten(t *testing.T) {
	server := dbtest.NewServer(t)
	pool := server.Open()
	defer pool.Close()
	migrator, err := migrate.Open(t.Context(), pool)
	if err != nil {
		t.Fatal(err)
	}
	defer migrator.Close()
	if err := migrator.Up(0); err != nil {
		t.Fatal(err)
	}
	dbtest.Exec(t, pool, `
		update tinydevcrm.csv_types
		   set accepts = '^[+]?[0-9]{1,5}$'
		 where type_name = 'integer'`)
	text := "n,m\n" + strings.Repeat("1,x\n", 1000) + "+2,x\n" + strings.Repeat("3,x\n", 1000) + "4.50,x\n" + strings.Repeat("+5,x\n", 3)
	request := upload.Request{Source: "t.csv"}.WithSizes(100, 100)
	request.Types = map[string]string{"m": "text"}
	before, _, _ := strings.Cut(text, "4.50")
	if _, err := upload.Load(t.Context(), pool, strings.NewReader(before), request); err != nil {
		t.Fatal(db.Explain(err))
	}
	got := dbtest.Value[string](t, pool, "select format('%s %s %s', pg_typeof(min(n)), count(*), sum(n)) from t")
	if got != "integer 2001 4002" {
		t.Errorf("got %s", got)
	}
	request.Table = "u"
	if _, err := upload.Load(t.Context(), pool, strings.NewReader(text), request); err != nil {
		t.Fatal(db.Explain(err))
	}
	if got := dbtest.Value[string](t, pool, "select string_agg(distinct n, ' ' order by n) from u"); got != "+5 1 2 3 4.50" {
		t.Errorf("got %s", got)
	}
}
