// Package worker wires one BAAS worker from one configuration: the Temporal
// workers for workflows and activities, and the leadership of a Mesos framework
// when Temporal gives it to this worker.
package worker

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"strconv"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/baas-batch/baas/activities"
	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/secrets"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/tasklet"
)

// Config of a worker. Client, Store, Mesos.Masters and Mesos.ExecutorURI must be
// given.
type Config struct {
	Client    client.Client
	Namespace string // of Client; "default" if empty
	Store     storage.Store
	Catalog   flow.Catalog
	// Secrets gives steps their secrets; nil: steps that name any fail.
	Secrets *secrets.Keeper
	// Images pins images to digests when a run starts; nil: they stay as they are.
	Images activities.ImagePinner
	// Users are rules OWNER=USER: whom the steps of an owner ("*" for all) may run
	// as. Without one, steps that name a user fail.
	Users []string
	// Volumes are rules OWNER=PATH[:rw]: what the containers of an owner's steps may
	// have of the agents' files. Without one, steps that name a volume fail.
	Volumes []string

	// Retention is for apps whose flow has no rules of its own; the zero value keeps
	// their runs for ever. All workers should have the same.
	Retention flow.Retention
	// UploadAge is how old unfinished uploads are aborted by the sweep; a day if 0.
	UploadAge time.Duration
	// NoSweep leaves the nightly sweep unscheduled and the store unclaimed: for a
	// platform whose store holds the runs of others too, since it cannot know which of
	// these are open.
	NoSweep bool

	// Framework is the name under which workers share one Mesos framework;
	// api.DefaultFramework if empty.
	Framework string
	// Mesos is the framework's configuration but for its ID, which Temporal keeps.
	Mesos mesos.Config

	// Identity names this worker to people; host and process ID if empty.
	Identity string
	Logger   *slog.Logger

	// LeaseTimeout is how long a leader may be silent before another worker leads;
	// api.DefaultLeaseTimeout if 0. The first worker of a framework decides it.
	LeaseTimeout time.Duration
	// HeartbeatTimeout is how long a step's activity may be without heartbeat
	// before Temporal hands it to the leader again; 3 minutes if 0. A new leader
	// takes over by itself what has heartbeated once, so this only decides how long
	// a step is held up that the last one was handed in its last second, and how
	// often an activity heartbeats: at a third of it.
	HeartbeatTimeout time.Duration
	// MaxWaiting is how many tasks may wait for a place with the leader before it
	// leaves the others in Temporal; 1,000 if 0.
	MaxWaiting int
	// MaxTasks bounds all tasks that the leader has in hand, waiting or placed;
	// 200,000 if 0.
	MaxTasks int
	// MaxPending bounds the activities that one run has pending; 500 if 0.
	MaxPending int
	// RangeSize is how many partitions of a step with for_each one activity takes at
	// most; 15,625 if 0, so that a million of them are 64 activities.
	RangeSize int
	// RangeFrom is from how many partitions on they share activities and tasks; 1,000
	// if 0.
	RangeFrom int
	// FirstPack is how many of them one task takes while it is not known how long they
	// last; 1 if 0.
	FirstPack int
	// URLLifetime is how long the signed URLs of tasks live, a step's time limit and an
	// hour where that is longer; 24 h if 0. Executors ask for new ones.
	URLLifetime time.Duration
	// StopTimeout is how long Stop waits for activities under way; 10 s if 0.
	StopTimeout time.Duration
}

func (c *Config) check() error {
	switch {
	case c.Client == nil:
		return errors.New("worker: no Temporal client")
	case c.Store == nil:
		return errors.New("worker: no storage")
	case len(c.Mesos.Masters) == 0:
		return errors.New("worker: no Mesos master")
	case c.Mesos.ExecutorURI == "":
		return errors.New("worker: no URI of the executor's binary")
	}
	if err := c.trustStorage(); err != nil {
		return err
	}
	if c.Namespace == "" {
		c.Namespace = client.DefaultNamespace
	}
	if c.Framework == "" {
		c.Framework = api.DefaultFramework
	}
	if c.Identity == "" {
		host, _ := os.Hostname()
		c.Identity = host + "/" + strconv.Itoa(os.Getpid())
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.LeaseTimeout == 0 {
		c.LeaseTimeout = api.DefaultLeaseTimeout
	}
	if c.HeartbeatTimeout == 0 {
		c.HeartbeatTimeout = 3 * time.Minute
	}
	if c.MaxPending == 0 {
		c.MaxPending = 500
	}
	if c.RangeSize == 0 {
		c.RangeSize = 15_625
	}
	if c.RangeFrom == 0 {
		c.RangeFrom = 1000
	}
	if c.StopTimeout == 0 {
		c.StopTimeout = 10 * time.Second
	}
	return nil
}

// maxPrivateCA bounds Capabilities.PrivateCA, in bytes: each task carries its
// executor's environment to the agent.
const maxPrivateCA = 16 << 10

// trustStorage has executors accept what the store's certificates rest on.
func (c *Config) trustStorage() error {
	ca := c.Store.Capabilities().PrivateCA
	switch {
	case ca == "":
		return nil
	case len(ca) > maxPrivateCA:
		return fmt.Errorf("storage: the file of ca=… has %d bytes and goes to every executor: "+
			"name one of at most %d that holds only the authority of the store", len(ca), maxPrivateCA)
	}
	env := maps.Clone(c.Mesos.ExecutorEnv)
	if env == nil {
		env = make(map[string]string)
	}
	env[tasklet.EnvStorageCA] = ca
	c.Mesos.ExecutorEnv = env
	return nil
}

// settings are what runs that start now are told.
func (c *Config) settings() api.Settings {
	return api.Settings{
		LaunchQueue:      api.LaunchQueue(c.Framework),
		ControlQueue:     api.ControlQueue(c.Framework),
		HeartbeatTimeout: c.HeartbeatTimeout,
		MaxPending:       c.MaxPending,
		RangeSize:        c.RangeSize,
		RangeFrom:        c.RangeFrom,
	}
}
