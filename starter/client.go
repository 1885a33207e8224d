// Package starter is the Go client of BAAS: it starts runs from flow files,
// describes, watches and kills them, and reads their logs and outputs. Services
// import it, and the CLI is a thin layer over it.
package starter

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/storage"
)

// DialTimeout bounds Dial, and so how long a wrong address goes unnoticed.
const DialTimeout = 8 * time.Second

// callTimeout bounds one call to Temporal. The SDK tries again within it.
const callTimeout = 8 * time.Second

// Config of a Client.
type Config struct {
	// Temporal is nil offline: then only runs that have ended and whose instance was
	// not run again are known, from Store.
	Temporal  client.Client
	Namespace string // of Temporal; "default" if empty
	Address   string // of Temporal, for messages
	Store     storage.Store
	Catalog   flow.Catalog // the tasklets that `tasklet: name@1` finds; nil for none
	ReadLive  ReadLive     // logs of running tasks; nil: logs come when a task has ended
}

// Client talks to one platform. It may be used from any goroutine.
type Client struct {
	temporal  client.Client
	namespace string
	address   string
	store     storage.Store
	catalog   flow.Catalog
	readLive  ReadLive
}

// New makes a Client. It closes neither Temporal nor Store.
func New(c Config) *Client {
	if c.Namespace == "" {
		c.Namespace = client.DefaultNamespace
	}
	return &Client{
		temporal: c.Temporal, namespace: c.Namespace, address: c.Address,
		store: c.Store, catalog: c.Catalog, readLive: c.ReadLive,
	}
}

// Dial connects to Temporal within DialTimeout. The error is an *UnreachableError.
func Dial(ctx context.Context, options client.Options) (client.Client, error) {
	dialing, cancel := context.WithTimeout(ctx, DialTimeout)
	defer cancel()
	c, err := client.DialContext(dialing, options)
	if err == nil {
		return c, nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	address := options.HostPort
	if address == "" {
		address = client.DefaultHostPort
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("no answer within %v", DialTimeout)
	}
	return nil, &UnreachableError{What: "Temporal", Address: address, Err: err}
}

// call runs one call to Temporal under a time limit and names its failures.
func (c *Client) call(ctx context.Context, f func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := f(limited)
	if err == nil || ctx.Err() != nil {
		return errors.Join(ctx.Err(), err)
	}
	return c.named(err)
}
