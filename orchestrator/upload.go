package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
)

func (p *program) uploadCommand() *cobra.Command {
	var request upload.Request
	command := &cobra.Command{
		Use:   "upload FILE",
		Short: "Make a table of a CSV file; - reads standard input",
		Args:  cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			request.Source = args[0]
			return p.upload(command.Context(), request)
		},
	}
	command.Flags().StringVar(&request.Table, "table", "", "name of the table (default: the file's)")
	command.Flags().StringVar(&request.Mode, "mode", "create",
		"create, replace (new rows for the old), or append (to the old)")
	return command
}

func (p *program) upload(ctx context.Context, request upload.Request) error {
	file, err := p.openFile(request.Source)
	if err != nil {
		return err
	}
	defer file.Close()

	return p.withDatabase(ctx, func(pool *sql.DB) error {
		done, err := upload.Load(ctx, pool, file, request)
		if err != nil {
			return err
		}
		fmt.Fprintf(p.stdout, "%s.%s: %d rows in %s\n", done.SchemaName, done.TableName,
			done.RowCount, done.FinishedAt.Sub(done.StartedAt).Round(time.Millisecond))
		table := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
		for _, column := range done.Columns {
			note := ""
			if column.Name != column.Header {
				note = fmt.Sprintf("\t(the file calls it %q)", column.Header)
			}
			fmt.Fprintf(table, "  %s\t%s%s\n", column.Name, column.Type, note)
		}
		return table.Flush()
	})
}

func (p *program) openFile(name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(p.stdin), nil
	}
	file, err := os.Open(name)
	if err != nil {
		var fault *os.PathError
		if errors.As(err, &fault) {
			err = fault.Err
		}
		return nil, &db.UserError{
			Status:  http.StatusBadRequest,
			Message: fmt.Sprintf("cannot read %s: %v", name, err),
		}
	}
	if info, err := file.Stat(); err == nil && info.IsDir() {
		file.Close()
		return nil, &db.UserError{
			Status:  http.StatusBadRequest,
			Message: fmt.Sprintf("%s is a directory", name),
			Hint:    "Name a CSV file.",
		}
	}
	return file, nil
}
