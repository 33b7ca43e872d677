package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/words"
)

func (p *program) uploadCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "upload FILE [FILE…]",
		Short: "Import files into a table: CSV, JSON, Parquet or Excel workbooks",
		Long: "Import files into a table: CSV, JSON, Parquet or Excel workbooks, plain, compressed or in a zip.\n\n" +
			"- reads standard input. Several files go into one table. Without options the program finds how a file is\n" +
			"written, and the narrowest type for each column that loses nothing. --dry-run shows both and imports nothing.",
		Example: "  orchestrator upload orders.csv\n" +
			"  orchestrator upload orders.csv --mode upsert --key id\n" +
			"  orchestrator upload january.csv february.csv --table orders --mode append\n" +
			"  curl https://example.com/orders.csv | orchestrator upload - --table orders",
		Annotations: map[string]string{whenStopped: "stopped; nothing was imported"},
	}
	flags := command.Flags()
	values := make(url.Values)
	for _, option := range upload.Options() {
		addOption(flags, option.Name, option.Usage, values)
	}
	isHeadless := flags.Bool("no-header", false, "the same as --header no")
	isDry := flags.Bool("dry-run", false, "print what would be done, judged by the first 256 kB, and change nothing")
	asJSON := flags.Bool("json", false, "print JSON")

	command.RunE = func(command *cobra.Command, args []string) error {
		if *isHeadless {
			if values.Has("header") {
				return badUsage("Give one of them.", "--header and --no-header exclude each other")
			}
			values.Set("header", "no")
		}
		request, err := upload.NewRequest(args[0], values)
		if err != nil {
			return asFlag(err)
		}
		file, size, err := p.openFiles(args)
		if err != nil {
			return err
		}
		defer file.Close()
		if size < 0 && len(args) == 1 {
			file = interruptible(command.Context(), file)
			defer file.Close()
		}
		return p.withDatabase(command.Context(), func(pool *sql.DB) error {
			if *isDry {
				return p.previewUpload(command.Context(), pool, file, request, *asJSON)
			}
			return p.upload(command.Context(), pool, file, size, request, *asJSON)
		})
	}
	return command
}

// An optionValue is an option of an import, which may be given several times.
type optionValue struct {
	values url.Values
	name   string
}

func (v optionValue) Set(value string) error { v.values.Add(v.name, value); return nil }
func (v optionValue) Type() string           { return "func" }
func (v optionValue) String() string         { return strings.Join(v.values[v.name], ",") }

// addOption adds an option of an import to those of a command.
func addOption(flags *pflag.FlagSet, name, usage string, values url.Values) {
	flags.Var(optionValue{values, name}, flagOf(name), usage)
}

// flagOf is the name that an option of an import has as a flag.
func flagOf(option string) string { return strings.ReplaceAll(option, "_", "-") }

// asFlag names an option in an error as the command line does.
func asFlag(err error) error {
	wrong, isUsers := errors.AsType[*db.UserError](err)
	if !isUsers {
		return err
	}
	name, rest, _ := strings.Cut(wrong.Message, " ")
	if !slices.ContainsFunc(upload.Options(), func(option upload.Option) bool { return option.Name == name }) {
		return err
	}
	renamed := *wrong
	renamed.Message = "--" + flagOf(name) + " " + rest
	return &renamed
}

func (p *program) upload(ctx context.Context, pool *sql.DB, file io.Reader, size int64, request upload.Request, asJSON bool) error {
	progress, endProgress := p.progress(size)
	request.Progress = progress
	done, err := upload.Load(ctx, pool, file, request)
	endProgress()
	if err != nil {
		return err
	}
	if asJSON {
		return p.printJSON(done, "")
	}

	fmt.Fprintf(p.stdout, "%s.%s: %s in %s\n", done.SchemaName, done.TableName,
		words.Count(done.RowCount, "row"), words.Duration(done.Took()))
	fmt.Fprintf(p.stdout, "  %s\n", done.Dialect)
	if done.Distribution != nil {
		fmt.Fprintf(p.stdout, "  on the Citus workers: %s\n", *done.Distribution)
	}
	if done.ProblemCount > 0 {
		what := "repaired"
		if done.RejectCount > 0 {
			what = "left out"
		}
		fmt.Fprintf(p.stdout, "  %s %s: select * from tinydevcrm.import_problems where import_id = %d\n",
			words.Count(done.ProblemCount, "line"), what, done.ID)
	}
	p.printNotices(done.Notices)
	return p.printColumns(done.Columns)
}

func (p *program) printNotices(notices []string) {
	for _, notice := range notices {
		fmt.Fprintf(p.stdout, "  Notice: %s\n", notice)
	}
}

func (p *program) previewUpload(ctx context.Context, pool *sql.DB, file io.Reader, request upload.Request, asJSON bool) error {
	plan, err := upload.Preview(ctx, pool, file, request)
	if err != nil {
		return err
	}
	if asJSON {
		return p.printJSON(plan, "")
	}
	fmt.Fprintln(p.stdout, plan.Dialect)
	for _, choices := range plan.Choices {
		table := p.newTable()
		for _, choice := range choices.Values {
			table.row("  --"+choices.Option, choice.Value, choice.Label)
		}
		if err := table.Flush(); err != nil {
			return err
		}
	}
	p.printNotices(plan.Notices)
	if err := p.printColumns(plan.Columns); err != nil {
		return err
	}
	if !plan.IsWhole {
		fmt.Fprintln(p.stdout, "These are the types of the first 256 kB. A later value that does not fit widens its column.")
	}
	for _, statement := range plan.Statements {
		fmt.Fprintf(p.stdout, "%s;\n", statement)
	}
	return nil
}

func (p *program) printColumns(columns []upload.Column) error {
	table := p.newTable()
	for _, column := range columns {
		typeName := column.Type
		if column.Form != "" {
			typeName += ", written like " + strings.TrimPrefix(column.Form, typeName+" ")
		}
		cells := []any{"  " + column.Name, typeName}
		if len(column.Samples) > 0 {
			cells = append(cells, column.SampleText())
		}
		if column.Name != column.Header && column.Header != "" {
			cells = append(cells, fmt.Sprintf("(in the file: %q)", column.Header))
		}
		table.row(cells...)
	}
	return table.Flush()
}

// progress shows a bar on a terminal, and nothing elsewhere.
func (p *program) progress(size int64) (show func(upload.Progress), end func()) {
	if _, isTerminal := terminal(p.stderr); !isTerminal {
		return nil, func() {}
	}
	bar := progressbar.NewOptions64(size,
		progressbar.OptionSetWriter(p.stderr),
		progressbar.OptionShowBytes(true),
		progressbar.OptionShowCount(),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish())
	return func(progress upload.Progress) {
		bar.Describe(words.Count(progress.Rows, "row"))
		// It fails only when the terminal does.
		_ = bar.Set64(progress.Bytes)
	}, func() { _ = bar.Finish() }
}

// interruptible is a file whose reads end with ctx, because a read of a pipe or a terminal may wait forever.
// The goroutine of such a read stays until the program ends.
func interruptible(ctx context.Context, file io.Reader) io.ReadCloser {
	reader, writer := io.Pipe()
	go func() {
		_, err := io.Copy(writer, file)
		writer.CloseWithError(err)
	}()
	context.AfterFunc(ctx, func() { reader.CloseWithError(context.Cause(ctx)) })
	return reader
}

// files are several files, which are read one after the other: upload.Files.
type files struct {
	io.ReadCloser
	program *program
	rest    []string
}

func (f *files) NextFile() (string, error) {
	if len(f.rest) == 0 {
		return "", io.EOF
	}
	f.Close()
	name := f.rest[0]
	file, _, err := f.program.openFile(name)
	if err != nil {
		// There is nothing to close.
		f.ReadCloser = io.NopCloser(strings.NewReader(""))
		return "", err
	}
	f.ReadCloser, f.rest = file, f.rest[1:]
	return name, nil
}

// openFiles opens the first of several files and returns their size; -1 when that is not known.
func (p *program) openFiles(names []string) (io.ReadCloser, int64, error) {
	var total int64
	for _, name := range names[1:] {
		file, size, err := p.openFile(name)
		if err != nil {
			return nil, 0, err
		}
		file.Close()
		total += size
	}
	first, size, err := p.openFile(names[0])
	if len(names) == 1 || err != nil {
		return first, size, err
	}
	return &files{first, p, names[1:]}, total + size, nil
}

// openFile opens a file and returns its size; -1 when that is not known.
func (p *program) openFile(name string) (io.ReadCloser, int64, error) {
	if name == "-" {
		return io.NopCloser(p.stdin), -1, nil
	}
	file, err := os.Open(name)
	if err != nil {
		var fault *os.PathError
		if errors.As(err, &fault) {
			err = fault.Err
		}
		return nil, 0, &db.UserError{
			Status:  http.StatusBadRequest,
			Message: fmt.Sprintf("cannot read %s: %v", name, err),
		}
	}
	info, err := file.Stat()
	if err == nil && info.IsDir() {
		file.Close()
		return nil, 0, &db.UserError{
			Status:  http.StatusBadRequest,
			Message: fmt.Sprintf("%s is a directory", name),
			Hint:    "Give the path of a file.",
		}
	}
	if err != nil || !info.Mode().IsRegular() {
		return file, -1, nil
	}
	return file, info.Size(), nil
}
