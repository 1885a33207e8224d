package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"

	"go.temporal.io/api/workflowservice/v1"

	"github.com/baas-batch/baas/starter"
)

// peaks are what a process has had at most, in MB of 10^6 bytes.
type peaks struct {
	process float64 // resident, with all that Temporal and Mesos have in it
	heap    float64 // of Go's heap, looked at ten times a second
}

const mb = 1e6

// watchMemory watches this process until the function that it gives is called.
func watchMemory() (stop func() (peaks, error)) {
	ended, heap := make(chan struct{}), make(chan uint64)
	go func() {
		sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		var most uint64
		for running := true; running; {
			select {
			case <-tick.C:
			case <-ended:
				running = false
			}
			metrics.Read(sample)
			most = max(most, sample[0].Value.Uint64())
		}
		heap <- most
	}()
	return func() (peaks, error) {
		close(ended)
		most := <-heap
		resident, err := kilobytes("/proc/self/status", "VmHWM:")
		return peaks{resident * 1024 / mb, float64(most) / mb}, err
	}
}

// kilobytes reads a line `NAME: N kB` of a file in /proc, see proc(5).
func kilobytes(file, name string) (float64, error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); len(fields) == 3 && fields[0] == name {
			return strconv.ParseFloat(fields[1], 64)
		}
	}
	if err := lines.Err(); err != nil {
		return 0, err
	}
	return 0, fmt.Errorf("%s: no %s", file, name)
}

// visibleIn is how long Temporal may take to list a run that has ended.
const visibleIn = time.Minute

// events gives the length of the longest history among a run's workflows: itself,
// those that it goes on as, and its children.
func (b *bed) events(ctx context.Context, s starter.Started) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, visibleIn)
	defer cancel()
	own := fmt.Sprintf("(WorkflowId = '%s' OR RootWorkflowId = '%[1]s')", s.Instance)
	for {
		open, err := b.platform.Client.CountWorkflow(ctx, &workflowservice.CountWorkflowExecutionsRequest{
			Query: own + " AND ExecutionStatus = 'Running'",
		})
		if err != nil {
			return 0, err
		}
		if open.GetCount() == 0 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	longest := int64(0)
	request := &workflowservice.ListWorkflowExecutionsRequest{Query: own}
	for {
		page, err := b.platform.Client.ListWorkflow(ctx, request)
		if err != nil {
			return 0, err
		}
		for _, x := range page.GetExecutions() {
			longest = max(longest, x.GetHistoryLength())
		}
		if request.NextPageToken = page.GetNextPageToken(); len(request.NextPageToken) == 0 {
			break
		}
	}
	if longest == 0 {
		return 0, fmt.Errorf("run %s: Temporal lists no workflow of it", s.Run)
	}
	return float64(longest), nil
}
