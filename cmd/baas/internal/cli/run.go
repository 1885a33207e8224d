package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	urfave "github.com/urfave/cli/v2"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/cmd/baas/internal/screen"
	"github.com/baas-batch/baas/starter"
)

func (p *Program) runCommand() *urfave.Command {
	flags := append([]urfave.Flag{
		&urfave.StringSliceFlag{Name: "param", Aliases: []string{"p"}, Usage: "`NAME=VALUE` of a parameter; for a file, VALUE is its path"},
		&urfave.StringFlag{Name: "date", Usage: "order date `YYYY-MM-DD` (default: today in UTC)"},
		&urfave.BoolFlag{Name: "detach", Aliases: []string{"d"}, Usage: "start the run, print its ID and return"},
		outputFlag(), executorFlag(), verboseFlag(),
	}, connectFlags()...)
	return command(&urfave.Command{Name: "run", Usage: "run a flow file", Flags: flags}, "FILE",
		"baas run flow.yaml -p month=2026-03 -p accounts=accounts.csv", onPlatform(p.readRun, p.platformForRun, p.run))
}

func executorFlag() urfave.Flag {
	return &urfave.StringFlag{Name: "executor", Usage: "`PATH` of baas-executor (BAAS_EXECUTOR; default: beside baas)"}
}

func verboseFlag() urfave.Flag {
	return &urfave.BoolFlag{Name: "verbose", Aliases: []string{"v"}, Usage: "log what the embedded parts do, on stderr"}
}

type runArgs struct {
	starter.StartOptions
	detach, asJSON bool
}

func (p *Program) readRun(c *urfave.Context) (a runArgs, err error) {
	file, err := oneArgument(c, "flow file")
	if err != nil {
		return a, err
	}
	a.detach = c.Bool("detach")
	if a.asJSON, err = wantsJSON(c); err != nil {
		return a, err
	}
	a.StartOptions, err = p.startOptions(c, file)
	return a, err
}

func (p *Program) run(ctx context.Context, platform *Platform, a runArgs) error {
	started, err := platform.Runs.Start(ctx, a.StartOptions)
	if err != nil {
		return err
	}
	if a.detach {
		_, err := fmt.Fprintln(p.Stdout, started.Run)
		return err
	}
	return p.attend(ctx, platform, started.Run, a.asJSON)
}

// startOptions reads and checks the file and its parameters, so that nothing is
// started, or waited for, if they are wrong.
func (p *Program) startOptions(c *urfave.Context, file string) (starter.StartOptions, error) {
	o := starter.StartOptions{Args: map[string]string{}, OrderDate: c.String("date"), RequestedBy: p.user()}
	for _, word := range c.StringSlice("param") {
		name, value, ok := strings.Cut(word, "=")
		if !ok || name == "" {
			return o, usagef("--param %q: expected NAME=VALUE", word)
		}
		if _, twice := o.Args[name]; twice {
			return o, usagef("--param %s is given twice", name)
		}
		o.Args[name] = value
	}
	var err error
	if o.App, err = p.load(file); err != nil {
		return o, err
	}
	return o, starter.Check(c.Context, o.App, o)
}

// platformForRun finds a platform or starts one for this run.
func (p *Program) platformForRun(c *urfave.Context) (*Platform, error) {
	t, err := p.target(c)
	if err == nil {
		if t.Storage == "" {
			return nil, usagef("no storage is configured for %s: name it with --storage or BAAS_STORAGE", t.Temporal.HostPort)
		}
		return p.Parts.Connect(c.Context, t)
	}
	if !errors.Is(err, errNoPlatform) {
		return nil, err
	}
	if c.Bool("detach") {
		return nil, usagef("--detach needs a platform that goes on: start one with: baas up")
	}
	o, err := p.embedOptions(c)
	if err != nil {
		return nil, err
	}
	fmt.Fprintln(p.Stderr, "No platform is up: starting one for this run.")
	return p.Parts.Embed(c.Context, o)
}

func (p *Program) embedOptions(c *urfave.Context) (EmbedOptions, error) {
	dir, err := p.dataDir(c)
	if err != nil {
		return EmbedOptions{}, err
	}
	return EmbedOptions{
		DataDir: dir, Storage: p.flagOr(c, "storage", "BAAS_STORAGE"), Executor: p.executor(c), Version: p.Version, Logger: p.logger(c.Bool("verbose")),
	}, nil
}

func (p *Program) executor(c *urfave.Context) string {
	if name := c.String("executor"); name != "" {
		return name
	}
	return p.getenv("BAAS_EXECUTOR")
}

// attend shows a run to its end and tells where everything is.
func (p *Program) attend(ctx context.Context, platform *Platform, id string, asJSON bool) error {
	v := p.view(asJSON)
	asking := &question{program: p, platform: platform, id: id, view: v}
	run, ended, err := p.follow(ctx, platform, id, v, asking.interrupted)
	if err != nil {
		return err
	}
	if !ended {
		fmt.Fprintf(p.Stderr, "Detached; the run goes on. See: baas status --watch %s\n", id)
		return nil
	}
	if asJSON {
		err = writeJSON(p.Stdout, run)
	} else {
		fmt.Fprintln(p.Stdout)
		p.printPlaces(p.Stdout, platform, &run)
	}
	if err == nil && run.Status != api.StatusSucceeded {
		if run.Reason != "" && !asJSON {
			fmt.Fprintf(p.Stderr, "baas: run %s %s: %s\n", run.Run, run.Status, screen.Why(run.Status, run.Reason))
		}
		return exitError{ExitFailed}
	}
	return err
}

// printPlaces tells where a run's outputs, logs and page are.
func (p *Program) printPlaces(w io.Writer, platform *Platform, run *starter.Run) {
	if place := platform.place(run); place != "" {
		fmt.Fprintf(w, "Outputs  %s\n         baas outputs %s\n", place, run.Run)
		fmt.Fprintf(w, "Logs     %s/<step>/logs\n         baas logs %s\n", strings.TrimSuffix(place, "/"), run.Run)
	}
	page := platform.page(run)
	if page == "" {
		return
	}
	fmt.Fprintf(w, "Web UI   %s\n", page)
	if platform.Embedded {
		fmt.Fprintln(w, "         (gone when this command ends; `baas up` keeps it)")
	}
}

// question asks what Ctrl-C means.
type question struct {
	program  *Program
	platform *Platform
	id       string
	view     view
	killed   bool
}

// interrupted handles one Ctrl-C. Where nobody can be asked, a run on a platform
// of its own is detached from, and one that lives in this process is killed.
func (q *question) interrupted(ctx context.Context) (goOn bool, err error) {
	if q.killed {
		if q.platform.Embedded {
			return false, exitError{ExitFailed}
		}
		return false, nil
	}
	answer := "d"
	if q.platform.Embedded {
		answer = "k"
	}
	if q.program.Asks {
		answer = q.ask()
	}
	switch {
	case answer == "k":
		q.killed = true
		q.view.note("Killing the run.")
		return true, q.platform.Runs.Kill(ctx, q.id, "Ctrl-C", q.program.user())
	case answer == "d" && !q.platform.Embedded:
		return false, nil
	}
	return true, nil
}

// ask puts the question until it is answered. A second Ctrl-C detaches; where
// that cannot be, it kills.
func (q *question) ask() string {
	text, valid, second := "[d]etach (the run goes on), [k]ill the run, or [c]ontinue to watch? ", "dkc", "d"
	if q.platform.Embedded {
		text, valid, second = "The run lives in this process. [k]ill it, or [c]ontinue? ", "kc", "k"
	}
	q.view.note("")
	answers := make(chan string, 1)
	for {
		fmt.Fprint(q.program.Stderr, text)
		go func() {
			line, err := bufio.NewReader(oneByte{q.program.Stdin}).ReadString('\n')
			if err != nil {
				line = second
			}
			answers <- strings.ToLower(strings.TrimSpace(line))
		}()
		select {
		case <-q.program.Interrupt:
			fmt.Fprintln(q.program.Stderr)
			return second
		case answer := <-answers:
			if len(answer) > 0 && strings.Contains(valid, answer[:1]) {
				return answer[:1]
			}
		}
	}
}

// oneByte keeps a buffered reader from taking more than one line.
type oneByte struct{ r io.Reader }

func (o oneByte) Read(p []byte) (int, error) { return o.r.Read(p[:min(1, len(p))]) }
