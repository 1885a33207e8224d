package cli

import (
	"context"
	"fmt"
	"time"

	urfave "github.com/urfave/cli/v2"

	"github.com/baas-batch/baas/starter"

	"github.com/baas-batch/baas/api"
)

// upStopTimeout is for tasks to end when `up` is stopped.
const upStopTimeout = 60 * time.Second

func (p *Program) upCommand() *urfave.Command {
	flags := []urfave.Flag{
		dataFlag(),
		&urfave.IntFlag{Name: "port", Usage: "port of Temporal (default: that of the last time, else 7233, else a free one)"},
		&urfave.IntFlag{Name: "ui-port", Usage: "port of the Web UI (default: that of the last time, else 8233, else a free one)"},
		&urfave.IntFlag{Name: "agents", Value: 1, Usage: "number of Mesos agents"},
		&urfave.Float64Flag{Name: "cpus", Usage: "CPUs that each agent offers (default: the machine's)"},
		&urfave.IntFlag{Name: "mem", Usage: "memory that each agent offers, in MB (default: most of the machine's)"},
		&urfave.BoolFlag{Name: "keep-tasks", Usage: "let running tasks live on when this command is stopped"},
		executorFlag(), verboseFlag(),
	}
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

func (p *Program) down(c *urfave.Context, platform *Platform, keepTasks bool) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Context), upStopTimeout)
	defer cancel()
	running := "open runs"
	if list, err := platform.Runs.List(ctx, starter.ListOptions{Status: api.StatusRunning}); err == nil {
		running = fmt.Sprintf("%d open runs", len(list))
		if len(list) == 1 {
			running = "1 open run"
		}
	}
	if keepTasks {
		fmt.Fprintf(p.Stderr, "Stopping. Running tasks live on; %s will go on at the next `baas up` on this data directory.\n", running)
	} else {
		fmt.Fprintf(p.Stderr, "Stopping. Running tasks are ended and run again later: %s will go on at the next `baas up` on this "+
			"data directory. (--keep-tasks lets them live on. Another Ctrl-C stops at once, and leaves them running.)\n", running)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- platform.Close(ctx, keepTasks) }()
	select {
	case err := <-stopped:
		if err == nil {
			fmt.Fprintln(p.Stderr, "Stopped.")
		}
		return err
	case <-p.Interrupt:
		return exitError{ExitFailed}
	}
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
