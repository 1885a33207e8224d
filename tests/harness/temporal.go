package harness

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/baas-batch/baas/embedded"
)

// temporalConfig is what the role "temporal" is told.
type temporalConfig struct {
	Dir     string
	Port    int // preferred; 0: any
	Dynamic map[string]any
}

// temporalRole serves an embedded Temporal on a directory and tells its address.
func temporalRole(ctx context.Context, raw json.RawMessage, ready func(any)) error {
	var cfg temporalConfig
	if err := json.Unmarshal(raw, &cfg); err != nil {
		return err
	}
	server, err := embedded.StartTemporal(ctx, embedded.TemporalConfig{
		DataDir: cfg.Dir, Port: cfg.Port, NoUI: true, DynamicConfig: cfg.Dynamic,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}
	ready(server.Address())
	<-ctx.Done()
	return server.Stop()
}

// Temporal is an embedded Temporal in a process of its own. Its state is on disk,
// so that it can be killed and started again.
type Temporal struct {
	*Process
	config  temporalConfig
	address string
}

// NewTemporal makes a server without starting it.
func NewTemporal(t testing.TB) *Temporal {
	t.Helper()
	cfg := temporalConfig{Dir: filepath.Join(Dir(t), "temporal")}
	return &Temporal{Process: NewProcess(t, "temporal", "temporal", cfg), config: cfg}
}

// Start starts the server, or starts it again, and waits until it serves. It asks
// for the port that it had last; see Address.
func (s *Temporal) Start() error {
	if err := s.Process.Start(); err != nil {
		return err
	}
	if err := s.Await(&s.address); err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(s.address)
	if err != nil {
		return err
	}
	if s.config.Port, err = strconv.Atoi(port); err != nil {
		return err
	}
	return s.Configure(s.config)
}

// Address is host:port of the frontend since the last Start.
func (s *Temporal) Address() string { return s.address }
