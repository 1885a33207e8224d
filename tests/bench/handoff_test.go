package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/platform"
	"github.com/baas-batch/baas/starter"
	"github.com/baas-batch/baas/tasklet"
	"github.com/baas-batch/baas/tests/harness"
)

// chain is how many tasks one iteration runs, one after the other.
const chain = 50

// BenchmarkHandOff runs no-op tasks one after the other on a warm executor and
// gives the median milliseconds of each part of their way:
//
//	schedule-accept: from the workflow's command to the ACCEPT in the master
//	accept-process:  until the command runs
//	exit-complete:   from the command's last act to the activity's completion
//	step:            from one task's command to the next one's
func BenchmarkHandOff(b *testing.B) {
	accepts := &acceptLog{at: map[string]time.Time{}}
	dir := harness.Dir(b)
	p := harness.Start(b, func(c *platform.Config) { c.Logger = slog.New(accepts) })
	runs := harness.Client(p)
	var m measured
	for iteration := 0; b.Loop(); iteration++ {
		b.StopTimer()
		ledger := filepath.Join(dir, "ledger"+strconv.Itoa(iteration))
		app := writeFlow(b, dir, ledger)
		b.StartTimer()
		started, err := runs.Start(b.Context(), starter.StartOptions{App: app, Args: map[string]string{"ledger": ledger}})
		if err != nil {
			b.Fatal(err)
		}
		last, err := runs.Wait(b.Context(), started.Run)
		if err != nil || last.Status != api.StatusSucceeded {
			b.Fatalf("%v %s %s", err, last.Status, last.Reason)
		}
		b.StopTimer()
		m.add(b, p, started, accepts, readLedger(b, ledger))
		b.StartTimer()
	}
	for _, part := range []struct {
		name   string
		values []time.Duration
	}{
		{"schedule-accept-ms", m.placing}, {"accept-process-ms", m.starting}, {"exit-complete-ms", m.completing}, {"step-ms", m.step},
	} {
		slices.Sort(part.values)
		b.ReportMetric(float64(part.values[len(part.values)/2].Microseconds())/1000, part.name)
	}
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N*chain)*1000, "task-ms")
	b.ReportMetric(0, "ns/op")
}

type measured struct{ placing, starting, completing, step []time.Duration }

// span is when a command ran, by its own clock.
type span struct{ begin, end time.Time }

// add takes one run in; its first task has started the executor and is left out.
func (m *measured) add(b *testing.B, p *platform.Platform, s starter.Started, accepts *acceptLog, spans map[string]span) {
	b.Helper()
	names := map[int64]string{} // activities by the event that scheduled them
	scheduled := map[string]time.Time{}
	completed := map[string]time.Time{}
	history := p.Client.GetWorkflowHistory(b.Context(), s.Instance, s.FirstID, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for history.HasNext() {
		event, err := history.Next()
		if err != nil {
			b.Fatal(err)
		}
		if a := event.GetActivityTaskScheduledEventAttributes(); a != nil {
			names[event.GetEventId()] = a.GetActivityId()
			scheduled[a.GetActivityId()] = event.GetEventTime().AsTime()
		}
		if a := event.GetActivityTaskCompletedEventAttributes(); a != nil {
			completed[names[a.GetScheduledEventId()]] = event.GetEventTime().AsTime()
		}
	}
	for i := 1; i < chain; i++ {
		step := stepName(i)
		activity := step + "-1"
		ran, accepted := spans[step], accepts.of(s, activity)
		if ran.end.IsZero() || accepted.IsZero() || completed[activity].IsZero() {
			b.Fatalf("step %s: ran %v, accepted %v, completed %v", step, ran, accepted, completed[activity])
		}
		m.placing = append(m.placing, accepted.Sub(scheduled[activity]))
		m.starting = append(m.starting, ran.begin.Sub(accepted))
		m.completing = append(m.completing, completed[activity].Sub(ran.end))
		m.step = append(m.step, ran.begin.Sub(spans[stepName(i-1)].begin))
	}
}

func stepName(i int) string { return fmt.Sprintf("s%02d", i) }

// writeFlow makes a flow of steps that need one another in turn.
func writeFlow(b *testing.B, dir, ledger string) *starter.App {
	b.Helper()
	text := "name: chain\nparams: {ledger: {type: string}}\ndefaults: {resources: {cpus: 0.1, mem: 16MB}}\nsteps:\n"
	for i := range chain {
		text += "  " + stepName(i) + ":\n"
		if i > 0 {
			text += "    needs: [" + stepName(i-1) + "]\n"
		}
		text += "    with: {ledger: '${{ params.ledger }}'}\n" +
			`    run: begin=$(date +%s%N); echo "$BAAS_STEP $begin $(date +%s%N)" >>"$BAAS_INPUT_LEDGER"` + "\n"
	}
	app := filepath.Join(dir, "app")
	if err := os.MkdirAll(app, 0o755); err != nil {
		b.Fatal(err)
	}
	file := filepath.Join(app, "flow.yaml")
	for name, content := range map[string]string{file: text, ledger: ""} {
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	if err := os.Chmod(ledger, 0o666); err != nil { // tasks are other users
		b.Fatal(err)
	}
	loaded, err := starter.Load(file, nil)
	if err != nil {
		b.Fatal(err)
	}
	return loaded
}

func readLedger(b *testing.B, path string) map[string]span {
	b.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	spans := map[string]span{}
	for line := range strings.Lines(string(data)) {
		var step string
		var begin, end int64
		if _, err := fmt.Sscan(line, &step, &begin, &end); err != nil {
			b.Fatalf("%q: %v", line, err)
		}
		spans[step] = span{time.Unix(0, begin), time.Unix(0, end)}
	}
	return spans
}

// acceptLog notes when the master took the ACCEPT of each task: it logs that.
type acceptLog struct {
	mu sync.Mutex
	at map[string]time.Time
}

func (l *acceptLog) Enabled(context.Context, slog.Level) bool { return true }
func (l *acceptLog) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *acceptLog) WithGroup(string) slog.Handler            { return l }

func (l *acceptLog) Handle(_ context.Context, r slog.Record) error {
	if r.Message != "master: launching" {
		return nil
	}
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "task" {
			l.mu.Lock()
			l.at[a.Value.String()] = r.Time
			l.mu.Unlock()
		}
		return true
	})
	return nil
}

func (l *acceptLog) of(s starter.Started, activity string) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.at[tasklet.TaskID{WorkflowID: s.Instance, RunID: s.FirstID, ActivityID: activity, Generation: 1}.String()]
}
