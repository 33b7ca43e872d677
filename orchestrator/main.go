// Orchestrator is TinyDevCRM's program beside Postgres: it applies migrations, streams uploads through COPY,
// serves the page, listens for events and delivers them. The rules are SQL.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/mail"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, func() {
		// A second signal ends the program at once. So does the time limit, because lib/pq waits for a
		// stalled server even after the context has ended. Nothing is lost: what is not acknowledged is
		// delivered again.
		stop()
		time.AfterFunc(endWithin, func() {
			fmt.Fprintln(os.Stderr, "error: the database has stalled; not waiting for it any longer")
			os.Exit(exitFailure)
		})
	})
	err := run(ctx, os.Args[1:], os.Getenv, os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(exitCode(err))
}

// endWithin is longer than an orderly end takes.
const endWithin = 15 * time.Second

// errSilent ends the program with exit code 1 when everything has been printed already.
var errSilent = errors.New("")

// run is the program. It writes an error to stderr before it returns it.
func run(ctx context.Context, args []string, getenv func(string) string, stdin io.Reader, stdout, stderr io.Writer) error {
	p := &program{
		databaseURL:     getenv("DATABASE_URL"),
		listenURL:       getenv("LISTEN_URL"),
		passwordCommand: getenv("PASSWORD_COMMAND"),
		listenAddr:      getenv("LISTEN_ADDR"),
		smtpURL:         getenv("SMTP_URL"),
		publicURL:       getenv("PUBLIC_URL"),
		editor:          cmp.Or(getenv("VISUAL"), getenv("EDITOR"), "vi"),
		hasNoColour:     getenv("NO_COLOR") != "" || getenv("TERM") == "dumb",
		isCompleting:    len(args) > 0 && strings.HasPrefix(args[0], cobra.ShellCompRequestCmd),
		getenv:          getenv,
		stdin:           stdin,
		stdout:          stdout,
		stderr:          stderr,
	}
	root := p.rootCommand()
	root.SetArgs(args)

	command, err := root.ExecuteContextC(ctx)
	if err != nil && ctx.Err() != nil {
		err = afterSignal(command, err)
	}
	err = codeUsage(command, err)
	switch {
	case err == nil, errors.Is(err, errSilent):
	case errors.Is(err, errStopped):
		fmt.Fprintln(stderr, cmp.Or(command.Annotations[whenStopped], "stopped"))
	default:
		fmt.Fprintf(stderr, "%s %s\n", p.painterOf(stderr).paint(red, "error:"), describe(err, p.suggest(ctx, command, err)))
	}
	return err
}

// describe formats an error for a terminal, with a suggestion, if there is one. The program's user is also its operator,
// so an internal error, which Explain only logs, is printed in full.
func describe(err error, suggestion string) string {
	problem := db.Explain(err)
	problem.Hint = strings.TrimSpace(suggestion + " " + problem.Hint)
	if problem.Status == 500 && problem.Code == "" && problem.Hint == "" {
		return err.Error()
	}
	if problem.Message == "internal error" {
		problem.Message = err.Error()
	}
	return problem.String()
}

// A program holds the settings and streams that the commands share.
type program struct {
	databaseURL string
	// listenURL is that of Postgres itself; empty when databaseURL is.
	listenURL string
	// password is made of passwordCommand before a command runs.
	passwordCommand string
	password        *db.PasswordCommand
	// maxConns bounds all connections; 0 for as many as are of use.
	maxConns int
	// idleAfter is how long nobody must ask before all connections are closed; 0 for never.
	idleAfter  time.Duration
	listenAddr string
	// smtpURL holds a password.
	smtpURL     string
	mail        *mail.Server
	publicURL   string
	editor      string
	hasNoColour bool
	// getenv gives the variables to which files of definitions refer.
	getenv func(string) string
	// isCompleting is whether a shell asks for completions: of a command line that is not whole yet.
	isCompleting bool
	metricsAddr  string
	hosts        []string
	webhooksTo   []netip.Prefix
	hasUsers     bool
	hasClock     bool
	cronURL      string
	// webhookProxy is whether webhooks go through the proxy of the environment.
	webhookProxy bool
	authURL      string
	letSupers    bool
	// inbox is the folder of files to import; empty for none.
	inbox     string
	maxUpload int64
	maxRatio  int64
	stdin     io.Reader
	stdout    io.Writer
	stderr    io.Writer
}

func (p *program) rootCommand() *cobra.Command {
	up := p.upCommand()
	root := &cobra.Command{
		Use:   "orchestrator",
		Short: "Upload a file, ask a question of it in SQL, be notified when the answer changes",
		Long: "Upload a file, ask a question of it in SQL, be notified when the answer changes.\n\n" +
			"TinyDevCRM's program beside Postgres. Without a command it runs up. DATABASE_URL names the database.\n" +
			"scripts/db url prints the URL of the private one.",
		Example: "  orchestrator\n" +
			"  orchestrator upload orders.csv\n" +
			"  orchestrator matview create big_orders 'select * from orders where total > 1000'\n" +
			"  orchestrator matview schedule big_orders '5 seconds'\n" +
			"  orchestrator webhook create alerts https://example.com/in --matview big_orders\n" +
			"  orchestrator events tail --follow",
		Version:       readBuild().String(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Annotations:   up.Annotations,
		RunE:          up.RunE,
	}
	p.accessFlags(root.PersistentFlags())
	root.PersistentPreRun = func(*cobra.Command, []string) { p.password = db.NewPasswordCommand(p.passwordCommand) }
	root.Flags().AddFlagSet(up.Flags())
	root.AddCommand(up, p.migrateCommand(), p.uploadCommand(), p.matviewCommand(),
		p.tableCommand(), p.subscriptionCommand(), p.webhookCommand(), p.emailCommand(), p.sourceCommand(), p.eventsCommand(),
		p.exportCommand(), p.planCommand(), p.checkCommand(), p.applyCommand(),
		p.statusCommand(), p.healthCommand(), p.doctorCommand(), p.manCommand())
	root.SetIn(p.stdin)
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	root.SetUsageTemplate(p.usageTemplate())
	root.SetVersionTemplate("{{.Version}}\n")
	root.InitDefaultVersionFlag()
	root.Flags().Lookup("version").Usage = "print the version of the program and of its schema"
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	explainCompletion(root)
	wrapHelp(root, p.helpColumns())
	p.complete(root)
	if !p.isCompleting {
		strict(root)
	}
	return root
}

// logger writes text to a terminal and JSON to anything else.
func logger(w io.Writer) *slog.Logger {
	if _, isTerminal := terminal(w); isTerminal {
		return slog.New(slog.NewTextHandler(w, nil))
	}
	return slog.New(slog.NewJSONHandler(w, nil))
}
