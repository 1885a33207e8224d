package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"testing"
)

// Role is what a test binary does when a test has started it as a process of its
// own. It calls ready once it serves, with what the test is to know (JSON), and
// serves until ctx ends: at SIGTERM, or when the test's process is gone.
type Role func(ctx context.Context, config json.RawMessage, ready func(any)) error

const (
	envRole   = "BAAS_TEST_ROLE"
	envConfig = "BAAS_TEST_CONFIG"
)

// Main is what TestMain of a package with processes does: in a process that was
// started as one of the roles it serves that, else it runs the tests. It exits.
// The roles "worker" and "temporal" are there without being named.
func Main(m *testing.M, roles map[string]Role) {
	if name := os.Getenv(envRole); name != "" {
		role, ok := map[string]Role{"worker": WorkerRole(nil), "temporal": temporalRole}[name]
		if own := roles[name]; own != nil {
			role, ok = own, true
		}
		if !ok {
			fmt.Fprintf(os.Stderr, "no role %q\n", name)
			os.Exit(2)
		}
		if err := play(role, json.RawMessage(os.Getenv(envConfig))); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	dir, err := os.MkdirTemp("", "baas-bin-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	programs.dir, programs.built = dir, map[string]bool{}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func play(role Role, config json.RawMessage) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() { // standard input ends with the test's process
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	return role(ctx, config, func(v any) {
		line, err := json.Marshal(v)
		if err != nil {
			panic(err) // a role's own mistake
		}
		fmt.Printf("%s\n", line)
	})
}
