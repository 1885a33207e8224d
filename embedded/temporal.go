// Package embedded runs a Temporal server and its Web UI inside the process, on
// SQLite: the orchestration half of a platform on one machine, for laptops and
// tests. The Mesos half is embedded/mesos.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"strconv"
	"sync"
	"time"

	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/server/temporal"
)

// What a zero TemporalConfig means.
const (
	DefaultHost      = "127.0.0.1"
	DefaultPort      = 7233
	DefaultUIPort    = 8233
	DefaultNamespace = "default"
)

// Retention is how long Temporal keeps the history of a closed workflow.
const Retention = 30 * 24 * time.Hour

const (
	startTimeout  = time.Minute      // of one attempt to start
	stopTimeout   = 20 * time.Second // of Stop
	startAttempts = 4                // a port that was free may be taken before the server binds it
)

// TemporalConfig says where an embedded Temporal listens and where it keeps its state.
type TemporalConfig struct {
	// DataDir holds the database; it is made when missing, and only one server
	// may use it at a time (the caller sees to that). Empty: in memory.
	//
	// The database is SQLite in WAL mode with synchronous=FULL, as durable as the
	// default of Temporal's own development server: what Temporal has
	// acknowledged survives a kill of the process and a loss of power.
	DataDir string

	Host string // address to listen on; DefaultHost if empty
	// Port and UIPort are preferred: when one is taken, a free one is used
	// instead. 0 takes any free port.
	Port      int
	UIPort    int
	NoUI      bool
	Namespace string // DefaultNamespace if empty

	// Logger gets what Temporal logs as an error, and nothing below; none if nil.
	Logger *slog.Logger
	// DynamicConfig overrides single values of Temporal's dynamic configuration.
	DynamicConfig map[string]any
}

func (c TemporalConfig) withDefaults() TemporalConfig {
	if c.Host == "" {
		c.Host = DefaultHost
	}
	if c.Namespace == "" {
		c.Namespace = DefaultNamespace
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.DynamicConfig = maps.Clone(c.DynamicConfig)
	return c
}

// Temporal is a running server.
type Temporal struct {
	config TemporalConfig
	ports  ports
	log    *serverLog
	server temporal.Server
	ui     *webUI // nil without UI

	stop    sync.Once
	stopErr error
}

// StartTemporal starts a server and returns when its namespace and the search
// attributes of package api can be used. A server on a DataDir that was used
// before goes on where the last one was.
func StartTemporal(ctx context.Context, config TemporalConfig) (*Temporal, error) {
	config = config.withDefaults()
	if net.ParseIP(config.Host) == nil {
		return nil, fmt.Errorf("start Temporal: host %q is not an IP address", config.Host)
	}
	database, err := openDatabase(config)
	if err != nil {
		return nil, fmt.Errorf("start Temporal: %w", err)
	}
	var t *Temporal
	for range startAttempts {
		t, err = startOnce(ctx, config, database)
		if !isAddressInUse(err) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("start Temporal: %w", err)
	}
	return t, nil
}

func startOnce(ctx context.Context, config TemporalConfig, database database) (_ *Temporal, err error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()

	t := &Temporal{config: config, log: newServerLog(config.Logger)}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.Stop())
		}
	}()

	if t.ports, err = choosePorts(config.Host, config.Port); err != nil {
		return nil, err
	}
	options, err := serverOptions(config, t.ports, database, t.log)
	if err != nil {
		return nil, err
	}
	if t.server, err = startServer(ctx, options, t.log); err != nil {
		return nil, err
	}
	if err := t.awaitReady(ctx); err != nil {
		return nil, err
	}
	if !config.NoUI {
		if t.ui, err = startUI(config, t.Address()); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// startServer gives up waiting when ctx ends; the server itself knows no context.
func startServer(ctx context.Context, options []temporal.ServerOption, log *serverLog) (temporal.Server, error) {
	type outcome struct {
		server temporal.Server
		err    error
	}
	done := make(chan outcome, 1)
	go func() {
		var o outcome
		defer func() {
			if p := recover(); p != nil {
				o.err = panicError(p)
			}
			done <- o
		}()
		if o.server, o.err = temporal.NewServer(options...); o.err == nil {
			o.err = o.server.Start()
		}
	}()
	select {
	case o := <-done:
		if o.err != nil && o.server != nil {
			log.quiet()
			stopServer(o.server)
			return nil, o.err
		}
		return o.server, o.err
	case <-ctx.Done():
		return nil, fmt.Errorf("the server is not up: %w", ctx.Err())
	}
}

// panicError makes an error of what serverLog.Fatal panics with.
func panicError(p any) error {
	if err, ok := p.(error); ok {
		return err
	}
	return fmt.Errorf("panic: %v", p)
}

// Address is host:port of the gRPC frontend.
func (t *Temporal) Address() string {
	return net.JoinHostPort(reachableHost(t.config.Host), strconv.Itoa(t.ports.frontend))
}

// UIURL is the address of the Web UI, "" without one.
func (t *Temporal) UIURL() string {
	if t.ui == nil {
		return ""
	}
	return "http://" + net.JoinHostPort(reachableHost(t.config.Host), strconv.Itoa(t.ui.port))
}

// Namespace is the one that was made.
func (t *Temporal) Namespace() string { return t.config.Namespace }

// ClientOptions connect a Temporal client to the server.
func (t *Temporal) ClientOptions() client.Options {
	return client.Options{
		HostPort:  t.Address(),
		Namespace: t.config.Namespace,
		Logger:    sdklog.NewStructuredLogger(t.config.Logger),
	}
}

// Stop ends the server and waits for it, at most 20 seconds. Open workflows stay
// in the database. Stop may be called again.
func (t *Temporal) Stop() error {
	t.stop.Do(func() {
		t.log.quiet() // the server reports its own end as errors
		if t.ui != nil {
			t.ui.stop()
		}
		if t.server != nil {
			t.stopErr = stopServer(t.server)
		}
	})
	return t.stopErr
}

func stopServer(server temporal.Server) error {
	done := make(chan error, 1)
	go func() { done <- server.Stop() }()
	select {
	case err := <-done:
		return err
	case <-time.After(stopTimeout):
		return fmt.Errorf("stop Temporal: still not stopped after %v", stopTimeout)
	}
}
