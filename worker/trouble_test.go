package worker

import (
	"context"
	"strings"
	"testing"

	"go.temporal.io/sdk/client"

	"github.com/baas-batch/baas/api"
)

// detailsClient keeps what heartbeats say, until somebody has heard enough.
type detailsClient struct {
	client.Client
	said chan api.LeadDetails
}

func (c detailsClient) RecordActivityHeartbeat(_ context.Context, _ []byte, details ...any) error {
	c.said <- details[0].(api.LeadDetails)
	return nil
}

// A leader that finds no master says so, and why, in its heartbeats.
func TestHeartbeatsSayThatThereIsNoMaster(t *testing.T) {
	c := detailsClient{said: make(chan api.LeadDetails, 1000)}
	l := testLeader(c, "http://127.0.0.1:1")
	term, err := l.begin(api.LeadInput{Framework: "test", FrameworkID: "f"}, nil, newLease(c, nil, leaseTimeout, l.details))
	if err != nil {
		t.Fatal(err)
	}
	defer l.end(term)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- term.fw.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	for {
		if err := term.lease.Confirm(ctx); err != nil {
			t.Fatal(err)
		}
		d := <-c.said
		if d.Leader != "tester" || !strings.HasPrefix(d.Mesos, "no Mesos master found yet") {
			t.Fatalf("heartbeat says %+v", d)
		}
		if strings.Contains(d.Mesos, "refused") {
			return
		}
		select {
		case err := <-ended:
			t.Fatalf("the framework has ended: %v", err)
		default:
		}
	}
}
