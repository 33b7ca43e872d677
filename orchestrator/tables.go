package main

import (
	"database/sql"
	"errors"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

func (p *program) tableCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "table COMMAND",
		Short: "List, show and drop your tables; orchestrator upload makes them",
	}
	list := p.listCommand("table", "List your tables, those of the newest imports first",
		"select * from tinydevcrm._list_tables('')", p.listTables)

	var withDependents bool
	drop := &cobra.Command{
		Use:   "drop TABLE",
		Short: "Drop a table",
		Long: "Drop a table. Views that read it, and what else depends on it, keep it from being dropped: orchestrator table\n" +
			"show lists them. --cascade drops them too, and orchestrator matview restore makes a view again.",
		Example: "  orchestrator table drop orders",
	}
	drop.Flags().BoolVar(&withDependents, "cascade", false, "drop what depends on it too, such as the views that read it")
	drop.RunE = p.query(func(pool *sql.DB, command *cobra.Command, args []string) error {
		if _, err := pool.ExecContext(command.Context(),
			"select tinydevcrm._drop_table($1::text::regclass, $2)", args[0], withDependents); err != nil {
			if problem := db.Explain(err); problem.Code == "2BP01" {
				return &db.UserError{
					Status: problem.Status, Code: problem.Code, Message: problem.Message, Detail: problem.Detail,
					Hint: "--cascade drops them too; orchestrator matview restore makes a view again.",
				}
			}
			return fmt.Errorf("drop table %q: %w", args[0], err)
		}
		fmt.Fprintf(p.stdout, "%s is dropped\n", args[0])
		return nil
	})
	command.AddCommand(list, p.showTableCommand(), drop)
	return command
}

// A tableRow is one of tinydevcrm._list_tables(), as the list shows it.
type tableRow struct{ name, rows, size, views, source, imported string }

func (r *tableRow) fields() []any {
	return []any{&r.name, &r.rows, &r.size, &r.views, &r.source, &r.imported}
}

func (p *program) listTables(pool *sql.DB, command *cobra.Command, _ []string) error {
	rows, err := db.Collect(command.Context(), pool, "list the tables", (*tableRow).fields, `
		select relation::text, coalesce('~' || row_estimate, '-'), coalesce(pg_size_pretty(byte_count), 'locked'), matview_count::text,
		       coalesce(source, '-'), coalesce(to_char(finished_at, 'YYYY-MM-DD HH24:MI:SSOF'), '-')
		  from tinydevcrm._list_tables('')`)
	if err != nil {
		return err
	}
	table := p.newList("there is no table of yours; orchestrator upload makes one", "TABLE", "ROWS", "SIZE", "VIEWS", "FILE", "IMPORTED")
	for _, r := range rows {
		table.row(r.name, r.rows, r.size, r.views, r.source, r.imported)
	}
	return table.Flush()
}

// A shownTable is what table show prints. What is not known is null.
type shownTable struct {
	Table        string   `json:"table"`
	RowEstimate  *int64   `json:"row_estimate"`
	Size         *string  `json:"size"`
	Description  *string  `json:"description"`
	Distribution *string  `json:"distribution"`
	Columns      []column `json:"columns"`
	// Sources fill it. Dependents are what --cascade drops with it.
	Sources    []string        `json:"sources"`
	Dependents []string        `json:"dependents"`
	LastImport *importOfATable `json:"last_import"`
}

type column struct {
	Name        string  `json:"name"`
	Type        string  `json:"type"`
	Description *string `json:"description"`
}

type importOfATable struct {
	ID           int64  `json:"id"`
	Source       string `json:"source"`
	Mode         string `json:"mode"`
	RowCount     int64  `json:"row_count"`
	ProblemCount int64  `json:"problem_count"`
	FinishedAt   string `json:"finished_at"`
}

const describeTable = `
	select json_build_object(
	           'table', relation::text,
	           'row_estimate', (
	               select nullif(greatest(reltuples, 0), 0)::bigint from pg_class where oid = described.relation
	           ),
	           'size', pg_size_pretty(byte_count),
	           'description', description,
	           'distribution', distribution,
	           'columns', (
	               select json_agg(json_build_object(
	                          'name', attname, 'type', format_type(atttypid, atttypmod),
	                          'description', col_description(attrelid, attnum)) order by attnum)
	                 from pg_attribute
	                where attrelid = described.relation and attnum > 0 and not attisdropped
	           ),
	           'sources', array(select name from tinydevcrm._list_sources_of(described.key)),
	           'dependents', array(
	               select concat_ws(' ', others.kind, coalesce(
	                          others.constraint_name || coalesce(' of ' || others.relation::text, ''), others.relation::text))
	                 from tinydevcrm._list_dropped_with(described.relation) as others
	                order by 1
	           ),
	           'last_import', (
	               select json_build_object(
	                          'id', id, 'source', source, 'mode', mode, 'row_count', row_count, 'problem_count', problem_count,
	                          'finished_at', to_char(finished_at, 'YYYY-MM-DD HH24:MI:SSOF'))
	                 from tinydevcrm.imports
	                where imports.relation = described.relation and finished_at is not null
	                order by id desc
	                limit 1
	           ))
	  from tinydevcrm._describe_table(array[$1::text]) as described`

func (p *program) showTableCommand() *cobra.Command {
	show := &cobra.Command{
		Use:     "show TABLE",
		Short:   "Show a table: columns, last import, sources, what depends on it",
		Example: "  orchestrator table show orders",
	}
	asJSON := show.Flags().Bool("json", false, "print JSON")
	show.RunE = p.query(func(pool *sql.DB, command *cobra.Command, args []string) error {
		var shown shownTable
		err := pool.QueryRowContext(command.Context(), describeTable, args[0]).Scan(db.JSON(&shown))
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return &db.UserError{
				Status:  http.StatusNotFound,
				Code:    "TD001",
				Message: fmt.Sprintf("there is no table %s of yours", args[0]),
				Hint:    "orchestrator table list lists those that you own.",
			}
		case err != nil:
			return fmt.Errorf("show table %q: %w", args[0], err)
		case *asJSON:
			return p.printJSON(shown, "  ")
		}
		return p.printTable(shown)
	})
	return show
}

func (p *program) printTable(shown shownTable) error {
	facts := p.newTable()
	facts.row("table", shown.Table)
	if shown.RowEstimate != nil {
		facts.row("rows", fmt.Sprintf("about %d", *shown.RowEstimate))
	}
	facts.row("size", orDash(shown.Size))
	for _, fact := range []struct {
		name string
		text *string
	}{{"description", shown.Description}, {"distribution", shown.Distribution}} {
		if fact.text != nil {
			facts.row(fact.name, *fact.text)
		}
	}
	if last := shown.LastImport; last != nil {
		facts.row("last import", fmt.Sprintf("number %d, %s: %s by mode %s, %d rows, %d lines repaired or left out",
			last.ID, last.FinishedAt, last.Source, last.Mode, last.RowCount, last.ProblemCount))
	}
	for _, source := range shown.Sources {
		facts.row("source", source)
	}
	for _, dependent := range shown.Dependents {
		facts.row("depends on it", dependent)
	}
	if err := facts.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(p.stdout)
	columns := p.newList("it has no columns", "COLUMN", "TYPE", "DESCRIPTION")
	for _, c := range shown.Columns {
		columns.row(c.Name, c.Type, orDash(c.Description))
	}
	return columns.Flush()
}
