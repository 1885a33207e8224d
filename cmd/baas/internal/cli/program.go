// Package cli is the command line of BAAS as a value: its streams, environment,
// signals and platform are given to it, so that tests run it in their own process.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	urfave "github.com/urfave/cli/v2"

	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/starter"
	"github.com/baas-batch/baas/storage"
)

// Exit codes.
const (
	ExitDone        = 0
	ExitFailed      = 1 // the run failed, or something else went wrong
	ExitUsage       = 2 // wrong usage, or an invalid file
	ExitUnreachable = 3
	ExitNotFound    = 4
)

// Program is the command line with all that it touches.
type Program struct {
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	// LookupEnv and Environ are those of the process.
	LookupEnv func(string) (string, bool)
	Environ   func() []string
	// User names who runs the program, where the environment does not.
	User string
	// Interrupt gets a value for each Ctrl-C.
	Interrupt <-chan struct{}
	// Terminal gives the size of the terminal that Stdout is; nil when it is none.
	Terminal func() (columns, rows int)
	// Asks tells whether Stdin is a terminal, so that a person can be asked.
	Asks    bool
	Now     func() time.Time
	Version string
	Catalog flow.Catalog
	// Shrink makes the process fit for moving data and nothing else; may be nil.
	Shrink func()

	Parts Parts

	offline bool // the command reads storage alone, since no platform was found
}

// Parts are what starts or connects things. Tests replace them.
type Parts struct {
	// Connect opens a platform that runs.
	Connect func(ctx context.Context, t Target) (*Platform, error)
	// Embed starts a platform for this process; persistent platforms are what
	// `baas up` runs.
	Embed func(ctx context.Context, o EmbedOptions) (*Platform, error)
	// OpenStore opens a store by its URL.
	OpenStore func(ctx context.Context, url string) (storage.Store, error)
	// Worker runs a worker until ctx ends.
	Worker func(ctx context.Context, o WorkerOptions) error
	// Doctor checks every part of a platform.
	Doctor func(ctx context.Context, t Target, o EmbedOptions) []Finding
}

// Run runs one command and gives its exit code.
func (p *Program) Run(ctx context.Context, args []string) int {
	app := p.app()
	arguments, err := p.reorder(app, args)
	if err == nil {
		err = app.RunContext(ctx, arguments)
	}
	if err == nil {
		return ExitDone
	}
	code := exitCode(err)
	if message := messageOf(err); message != "" {
		fmt.Fprintln(p.Stderr, message)
	}
	if code == ExitNotFound && p.offline {
		fmt.Fprintln(p.Stderr, "No platform is configured, and none is up: only what ended runs left in storage was searched. See: baas up --help")
	}
	return code
}

// exitError carries an exit code for what was reported already.
type exitError struct{ code int }

func (e exitError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// usageError is a mistake on the command line.
type usageError struct{ message string }

func (e *usageError) Error() string { return e.message }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}

func exitCode(err error) int {
	var exit exitError
	var usage *usageError
	switch {
	case errors.As(err, &exit):
		return exit.code
	case errors.As(err, &usage), errors.Is(err, starter.ErrInvalid):
		return ExitUsage
	case errors.Is(err, starter.ErrUnreachable), errors.Is(err, errNoPlatform):
		return ExitUnreachable
	case errors.Is(err, starter.ErrNotFound), errors.Is(err, storage.ErrNotExist):
		return ExitNotFound
	}
	return ExitFailed
}

func messageOf(err error) string {
	var exit exitError
	var invalid *starter.InvalidError
	switch {
	case errors.As(err, &exit):
		return ""
	case errors.As(err, &invalid):
		return problems(invalid)
	}
	message := "baas: " + err.Error()
	var running *starter.RunningError
	if errors.As(err, &running) && running.Run != "" {
		message += "; see: baas status --watch " + running.Run
	}
	return message
}

func problems(e *starter.InvalidError) string {
	lines := e.Messages()
	return strings.Join(append(lines, number(len(lines), "problem")+"; nothing was started"), "\n")
}

func (p *Program) getenv(name string) string {
	value, _ := p.LookupEnv(name)
	return value
}

func (p *Program) app() *urfave.App {
	return &urfave.App{
		Name:                      "baas",
		Usage:                     "run batch flows: orchestrated by Temporal, placed by Mesos, kept in object storage",
		Version:                   p.Version,
		HideVersion:               true,
		Reader:                    p.Stdin,
		Writer:                    p.Stdout,
		ErrWriter:                 p.Stderr,
		ExitErrHandler:            func(*urfave.Context, error) {},
		OnUsageError:              onUsageError,
		DisableSliceFlagSeparator: true, // values may hold commas
		CustomAppHelpTemplate:     appHelp,
		Commands: []*urfave.Command{
			p.upCommand(), p.runCommand(), p.validateCommand(), p.graphCommand(),
			p.lsCommand(), p.statusCommand(), p.explainCommand(), p.logsCommand(), p.outputsCommand(), p.killCommand(), p.releaseCommand(), p.mesosCommand(), p.storageCommand(),
			p.workerCommand(), p.doctorCommand(), p.versionCommand(),
		},
		Action: func(c *urfave.Context) error {
			if c.NArg() == 0 {
				return urfave.ShowAppHelp(c)
			}
			return p.unknownCommand(c.App, c.Args().First())
		},
	}
}

// onUsageError puts the words of the flag package right: they name an option
// with one dash, and give no advice.
func onUsageError(c *urfave.Context, err error, _ bool) error {
	name, unknown := strings.CutPrefix(err.Error(), "flag provided but not defined: -")
	if !unknown {
		return usagef("%v; see: baas %s --help", err, c.Command.Name)
	}
	var names []string
	for _, f := range c.Command.Flags {
		names = append(names, f.Names()[0])
	}
	if s := flow.Suggest(name, names); s != "" {
		return usagef("unknown option --%s: did you mean --%s? See: baas %s --help", name, s, c.Command.Name)
	}
	return usagef("unknown option --%s; see: baas %s --help", name, c.Command.Name)
}

func (p *Program) unknownCommand(app *urfave.App, name string) error {
	var names []string
	for _, c := range app.Commands {
		names = append(names, c.Name)
	}
	if s := flow.Suggest(name, names); s != "" {
		return usagef("unknown command %q: did you mean %q?", name, s)
	}
	return usagef("unknown command %q: see baas --help", name)
}

// command fills in what all commands share.
func command(c *urfave.Command, arguments, example string, action func(*urfave.Context) error) *urfave.Command {
	c.HideHelpCommand = true
	c.OnUsageError = onUsageError
	c.CustomHelpTemplate = help(c, arguments, example)
	c.Action = action
	return c
}

// reorder puts a command's flags before its arguments, so that both
// `run -p a=b FILE` and `run FILE -p a=b` are understood. "--" ends the flags.
func (p *Program) reorder(app *urfave.App, args []string) ([]string, error) {
	if len(args) < 2 {
		return args, nil
	}
	if args[1] == "--version" || args[1] == "-v" {
		args = append([]string{args[0], "version"}, args[2:]...)
	}
	command := app.Command(args[1])
	if command == nil {
		if strings.HasPrefix(args[1], "-") && args[1] != "-h" && args[1] != "--help" && args[1] != "-help" {
			return nil, usagef("options stand after the command: baas COMMAND %s", args[1])
		}
		return args, nil
	}
	valued := map[string]bool{}
	for _, f := range command.Flags {
		if documented, ok := f.(urfave.DocGenerationFlag); ok && documented.TakesValue() {
			for _, name := range f.Names() {
				valued[name] = true
			}
		}
	}
	flags, words := splitFlags(args[2:], valued)
	return append(append(append(append([]string{}, args[:2]...), flags...), "--"), words...), nil
}

func splitFlags(args []string, valued map[string]bool) (flags, words []string) {
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			return flags, append(words, args[i+1:]...)
		}
		if len(arg) < 2 || arg[0] != '-' {
			words = append(words, arg)
			continue
		}
		flags = append(flags, arg)
		name := strings.TrimLeft(arg, "-")
		if valued[name] && i+1 < len(args) {
			i++
			flags = append(flags, args[i])
		}
	}
	return flags, words
}

// oneArgument gives the only argument of a command.
func oneArgument(c *urfave.Context, what string) (string, error) {
	if c.NArg() != 1 {
		return "", usagef("%s takes one %s, got %d; see: baas %s --help", c.Command.Name, what, c.NArg(), c.Command.Name)
	}
	return c.Args().First(), nil
}

func noArguments(c *urfave.Context) error {
	if c.NArg() != 0 {
		return usagef("%s takes no argument, got %q", c.Command.Name, c.Args().First())
	}
	return nil
}

// load reads a flow file; one that cannot be read is a mistake of usage.
func (p *Program) load(file string) (*starter.App, error) {
	app, err := starter.Load(file, p.Catalog)
	var invalid *starter.InvalidError
	if err != nil && !errors.As(err, &invalid) {
		return nil, &usageError{err.Error()}
	}
	return app, err
}

func (p *Program) logger(verbose bool) *slog.Logger {
	level := slog.LevelError
	if verbose {
		level = slog.LevelInfo
	}
	return slog.New(slog.NewTextHandler(p.Stderr, &slog.HandlerOptions{Level: level}))
}
