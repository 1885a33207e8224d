package cli

import (
	"context"
	"fmt"
	"time"

	urfave "github.com/urfave/cli/v2"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/starter"
)

const (
	// upStopTimeout is for tasks to end when `up` is stopped.
	upStopTimeout = 60 * time.Second
	// tallyTimeout is for finding out what runs, to tell it.
	tallyTimeout = 2 * time.Second
)

func (p *Program) upCommand() *urfave.Command {
	flags := []urfave.Flag{
		dataFlag(), storageFlag(),
		&urfave.IntFlag{Name: "port", Usage: "`PORT` of Temporal (default: that of last time, else 7233, else free)"},
		&urfave.IntFlag{Name: "ui-port", Usage: "`PORT` of the Web UI (default: that of last time, else 8233, else free)"},
		&urfave.IntFlag{Name: "agents", Value: 1, Usage: "number `N` of Mesos agents"},
		&urfave.Float64Flag{Name: "cpus", Usage: "CPUs `N` that each agent offers (default: the machine's)"},
		&urfave.IntFlag{Name: "mem", Usage: "memory `MB` that each agent offers (default: at least half of the machine's)"},
		&urfave.BoolFlag{Name: "keep-tasks", Usage: "let running tasks live on when this command is stopped"},
		retentionFlag(), executorFlag(), verboseFlag(),
	}
	flags = append(flags, secretsFlags()...)
	return command(&urfave.Command{Name: "up", Usage: "run a whole platform on this machine until Ctrl-C", Flags: flags}, "",
		"baas up --data ./baas-data", p.up)
}

func (p *Program) up(c *urfave.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	o, err := p.embedOptions(c)
	if err != nil {
		return err
	}
	if o.Secrets, err = p.secrets(c); err != nil {
		return err
	}
	if o.Users, err = users(c); err != nil {
		return err
	}
	if o.Retention, err = p.retention(c); err != nil {
		return err
	}
	o.Persistent = true
	o.Port, o.UIPort = c.Int("port"), c.Int("ui-port")
	o.Agents, o.CPUs, o.MemMB = c.Int("agents"), c.Float64("cpus"), c.Int("mem")
	if o.Agents < 1 || o.CPUs < 0 || o.MemMB < 0 || o.Port < 0 || o.UIPort < 0 {
		return usagef("--agents must be at least 1, and --cpus, --mem and the ports not below 0")
	}
	starting, cancel := p.untilInterrupt(c.Context)
	platform, err := p.Parts.Embed(starting, o)
	interrupted := starting.Err() != nil && c.Context.Err() == nil
	cancel()
	if err != nil {
		if interrupted {
			return exitError{ExitFailed}
		}
		return err
	}
	fmt.Fprintf(p.Stdout, "BAAS is up.\n"+
		"  Web UI    %s\n  Temporal  %s, namespace %s\n  Mesos     %s\n  Storage   %s\n  Data      %s\n"+
		"Run a flow in another terminal: baas run FILE%s\nStop with Ctrl-C.\n",
		platform.UI, platform.Temporal.HostPort, platform.Temporal.Namespace, platform.Mesos, platform.Storage, o.DataDir, p.dataHint(c))
	select {
	case <-p.Interrupt:
	case <-c.Context.Done():
	}
	return p.down(c, platform, c.Bool("keep-tasks"))
}

// dataHint is the option by which other commands find a platform that is not in
// the default directory.
func (p *Program) dataHint(c *urfave.Context) string {
	if dir := c.String("data"); dir != "" {
		return " --data " + dir
	}
	return ""
}

// down stops a platform and says what becomes of its runs and tasks. Another Ctrl-C
// ends the process at once, as kill -9 would.
func (p *Program) down(c *urfave.Context, platform *Platform, keepTasks bool) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Context), upStopTimeout)
	defer cancel()
	stopped := make(chan error, 1)
	go func() {
		fmt.Fprintln(p.Stderr, "Stopping. "+leaves(ctx, platform, keepTasks))
		stopped <- platform.Close(ctx, keepTasks)
	}()
	select {
	case err := <-stopped:
		if err == nil {
			fmt.Fprintln(p.Stderr, "Stopped.")
		}
		return err
	case <-p.Interrupt:
		fmt.Fprintln(p.Stderr, "Stopped at once; tasks may still be running or ending.")
		return exitError{ExitFailed}
	}
}

// leaves says what a platform that stops leaves to the next one.
func leaves(ctx context.Context, platform *Platform, keepTasks bool) string {
	runs, tasks := "Open runs", "running tasks"
	switch open, running, err := tally(ctx, platform); {
	case err != nil: // it is told without numbers
	case open == 0:
		return "No run is open."
	default:
		runs, tasks = number(open, "open run"), number(running, "running task")
	}
	text := runs + " to go on with the next `baas up` on this data directory; " + tasks
	if keepTasks {
		return text + " to live on meanwhile."
	}
	return text + " to be ended now, and run again then.\n" +
		"(--keep-tasks lets them live on. Another Ctrl-C does not wait for their end.)"
}

// tally counts the open runs and running tasks of a platform.
func tally(ctx context.Context, platform *Platform) (runs, tasks int, err error) {
	ctx, cancel := context.WithTimeout(ctx, tallyTimeout)
	defer cancel()
	list, err := platform.Runs.List(ctx, starter.ListOptions{Status: api.StatusRunning})
	if err != nil {
		return 0, 0, err
	}
	for _, summary := range list {
		run, err := platform.Runs.Describe(ctx, summary.Run)
		if err != nil {
			return 0, 0, err
		}
		for _, s := range run.Steps {
			tasks += s.Running
		}
	}
	return len(list), tasks, nil
}

// untilInterrupt gives a context that Ctrl-C ends.
func (p *Program) untilInterrupt(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-p.Interrupt:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

func (p *Program) versionCommand() *urfave.Command {
	return command(&urfave.Command{Name: "version", Usage: "print the version"}, "", "baas version",
		func(c *urfave.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			_, err := fmt.Fprintln(p.Stdout, p.Version)
			return err
		})
}
