// Command baas runs and operates batch flows. See `baas --help`.
package main

import (
	"context"
	"os"
	"os/signal"
	"os/user"
	"runtime/debug"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/baas-batch/baas/catalog"
	"github.com/baas-batch/baas/cmd/baas/internal/cli"
	"github.com/baas-batch/baas/cmd/baas/internal/footprint"
)

func main() {
	os.Exit(run())
}

func run() int {
	p := &cli.Program{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		LookupEnv: os.LookupEnv,
		Environ:   os.Environ,
		User:      account(),
		Interrupt: interrupts(),
		Asks:      term.IsTerminal(int(os.Stdin.Fd())) && term.IsTerminal(int(os.Stderr.Fd())),
		Now:       time.Now,
		Version:   version(),
		Catalog:   catalog.Catalog{},
		Shrink:    func() { _ = footprint.Shrink() }, // a larger process works as well
	}
	if term.IsTerminal(int(os.Stdout.Fd())) {
		p.Terminal = func() (columns, rows int) {
			columns, rows, err := term.GetSize(int(os.Stdout.Fd()))
			if err != nil {
				return 0, 0
			}
			return columns, rows
		}
	}
	p.Parts = parts{catalog: p.Catalog}.all()
	return p.Run(context.Background(), os.Args)
}

// account is the name of the user that this process runs as.
func account() string {
	u, err := user.Current()
	if err != nil {
		return "unknown"
	}
	return u.Username
}

// interrupts gives a value for each Ctrl-C, and for SIGTERM, by which supervisors
// ask the same.
func interrupts() <-chan struct{} {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	out := make(chan struct{})
	go func() {
		for range signals {
			select {
			case out <- struct{}{}:
			case <-time.After(2 * time.Second):
				os.Exit(cli.ExitFailed) // nobody listens
			}
		}
	}()
	return out
}

func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 && (v == "" || v == "(devel)") {
			v = "devel-" + s.Value[:12]
		}
	}
	if v == "" {
		v = "(devel)"
	}
	return v + " " + info.GoVersion
}
