package executor

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"github.com/baas-batch/baas/tasklet"
	"github.com/baas-batch/baas/tasklet/lines"
)

// packEnd is what the leader of a pack gets to know: its segments, the results by
// position, and the terminal update.
type packEnd struct {
	segments []tasklet.Segment
	results  map[int]tasklet.Result
	status   mesos.TaskStatus
}

// packed waits for the end of a pack and reads its segments. What was told of must be
// there, and no result in two of them.
func (r *rig) packed(l *tasklet.Launch) packEnd {
	r.t.Helper()
	end := packEnd{results: map[int]tasklet.Result{}, status: r.agent.end(l.TaskID)}
	position := map[int]int{}
	for i, p := range l.Partitions {
		position[p.Index] = i
	}
	for _, g := range r.told(l.TaskID) {
		if g.Number != len(end.segments) || len(g.Done) != (len(l.Partitions)+7)/8 {
			r.t.Errorf("segment %d of number %d, %d bytes of positions", len(end.segments), g.Number, len(g.Done))
		}
		end.segments = append(end.segments, g)
		failed := 0
		for _, res := range r.readSegment(l, g) {
			i := position[res.Partition]
			if g.Done[i/8]&(1<<(i%8)) == 0 {
				r.t.Errorf("segment %d does not tell of partition %d", g.Number, res.Partition)
			}
			g.Done[i/8] &^= 1 << (i % 8)
			if _, twice := end.results[i]; twice {
				r.t.Errorf("partition %d has two results", res.Partition)
			}
			end.results[i] = res
			if res.Outcome != tasklet.Succeeded {
				failed++
			}
		}
		if !bytes.Equal(g.Done, make([]byte, len(g.Done))) {
			r.t.Errorf("segment %d tells of what it does not have: %x", g.Number, g.Done)
		}
		if len(g.Failed) != failed && !g.More {
			r.t.Errorf("segment %d tells of %d failures, not %d", g.Number, len(g.Failed), failed)
		}
	}
	return end
}

// told lists the segments that updates have told of.
func (r *rig) told(id string) (found []tasklet.Segment) {
	r.agent.mu.Lock()
	defer r.agent.mu.Unlock()
	for _, u := range r.agent.updates {
		var data tasklet.StatusData
		if err := json.Unmarshal(u.Data, &data); err != nil || len(u.Data) > tasklet.MaxStatusData {
			r.t.Errorf("%d bytes of status data: %v", len(u.Data), err)
		}
		if u.TaskID.Value == id && data.Segment != nil {
			found = append(found, *data.Segment)
		}
	}
	return found
}

func (r *rig) waitSegments(id string, n int) {
	r.t.Helper()
	eventually(r.t, fmt.Sprintf("%d segments", n), func() bool { return len(r.told(id)) >= n })
}

func (r *rig) readSegment(l *tasklet.Launch, g tasklet.Segment) (results []tasklet.Result) {
	r.t.Helper()
	object, ok := r.store.get(segmentKey(l.TaskID, g.Number))
	if !ok || int64(len(object)) != g.Size {
		r.t.Fatalf("segment %d of %d bytes has %d in storage", g.Number, g.Size, len(object))
	}
	read := func(_ context.Context, offset, length int64) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(object[offset : offset+length])), nil
	}
	list, err := lines.Open(r.t.Context(), read, g.Size)
	if err != nil {
		r.t.Fatal(err)
	}
	for line, err := range list.Values(r.t.Context(), 0, list.Len()) {
		var res tasklet.Result
		if err == nil {
			err = json.Unmarshal(line, &res)
		}
		if err != nil {
			r.t.Fatal(err)
		}
		results = append(results, res)
	}
	return results
}

// logged gives what a log in a segment, or of its own, holds.
func (r *rig) logged(res tasklet.Result) string {
	r.t.Helper()
	if res.Log == nil {
		r.t.Fatalf("partition %d has no log: %+v", res.Partition, res)
	}
	object, _ := r.store.get(res.Log.Key)
	text := string(object[res.Log.Offset : res.Log.Offset+res.Log.Size])
	r.checkRef(*res.Log, text)
	return text
}

// left lists what lies in the executor's directories of partitions, archives and logs.
func (r *rig) left() (names []string) {
	for _, of := range []string{"work/partitions/*/*/*", "work/spool/*", "logs/*"} {
		found, err := filepath.Glob(filepath.Join(r.sandbox, of))
		if err != nil {
			r.t.Error(err)
		}
		for _, path := range found {
			name, _ := filepath.Rel(r.sandbox, path)
			names = append(names, name)
		}
	}
	return names
}

// waitLog waits until a partition has begun.
func (r *rig) waitLog(l *tasklet.Launch, partition int) {
	r.t.Helper()
	eventually(r.t, fmt.Sprintf("log of partition %d", partition), func() bool {
		_, err := os.Stat(filepath.Join(r.sandbox, "logs", l.TaskID, fmt.Sprintf("%d.log", partition)))
		return err == nil
	})
}

func TestSegments(t *testing.T) {
	r := newRig(t, setup{})
	l := r.pack(`echo "log $BAAS_PARTITION $BAAS_INPUT_A $BAAS_INPUT_B $C $D"; test $BAAS_PARTITION = 6 && exit 3
		echo $BAAS_PARTITION > $BAAS_OUTPUTS/n; seq $BAAS_PARTITION > $BAAS_OUTPUTS/f
		mkdir $BAAS_OUTPUTS/d $BAAS_OUTPUTS/many; seq 9 > $BAAS_OUTPUTS/d/nine; echo x$BAAS_PARTITION > $BAAS_OUTPUTS/many/x; echo y > $BAAS_OUTPUTS/many/y`, 12)
	l.Attempt = 3
	l.Segments.Every, l.Segments.Targets = 0, l.Segments.Targets[:2] // the others are asked for
	l.Inputs = map[string]tasklet.Input{"a": {Value: json.RawMessage(`"common"`)}, "b": {Value: json.RawMessage(`1`)}}
	l.Env = map[string]string{"C": "c", "D": "d"}
	l.Outputs = []tasklet.Output{{Name: "n", Type: tasklet.TypeInt}, {Name: "f", Type: tasklet.TypeFile},
		{Name: "many", Type: tasklet.TypeFiles}, {Name: "d", Type: tasklet.TypeDirectory}}
	for i := range l.Partitions {
		p := &l.Partitions[i]
		p.Index, p.Env = i+4, map[string]string{"D": fmt.Sprint("own", i)}
		p.Inputs = map[string]tasklet.Input{"b": {Value: json.RawMessage(fmt.Sprint(i * i))}}
	}
	r.launch(l)
	end := r.packed(l)
	if end.status.GetState() != mesos.TASK_FAILED || len(end.results) != 12 || len(end.segments) < 3 {
		t.Fatalf("%s, %d results in %d segments", end.status.GetState(), len(end.results), len(end.segments))
	}
	if !strings.HasPrefix(end.status.GetMessage(), "11 of 12 partitions succeeded; partition 6 failed: exit code 3") {
		t.Error(end.status.GetMessage())
	}
	var usage tasklet.Usage
	for _, g := range end.segments {
		usage.Add(g.Usage)
		if g.Seconds <= 0 {
			t.Errorf("segment %d took %v s", g.Number, g.Seconds)
		}
	}
	for i, res := range end.results {
		usage.WallTime -= res.Usage.WallTime
		if want := fmt.Sprintf("log %d common %d c own%d\n", i+4, i*i, i); r.logged(res) != want || res.Attempt != 3 {
			t.Errorf("%q, not %q; attempt %d", r.logged(res), want, res.Attempt)
		}
		if i == 2 {
			continue // the one that failed
		}
		r.checkRef(refOf(t, res, "f"), numbersTo(i+4))
		var many []tasklet.FileRef
		if err := json.Unmarshal(res.Outputs["many"], &many); err != nil || len(many) != 2 {
			t.Fatal(err, many)
		}
		r.checkRef(many[0], fmt.Sprintf("x%d\n", i+4))
		r.checkRef(many[1], "y\n")
		if string(res.Outputs["n"]) != fmt.Sprint(i+4) || many[0].Key != segmentKey(l.TaskID, 0) && i == 0 {
			t.Errorf("%s %+v", res.Outputs["n"], many)
		}
	}
	if usage.WallTime > 1e-6 || usage.WallTime < -1e-6 {
		t.Errorf("the segments' usage is %v s more than the results'", usage.WallTime)
	}
	next := r.job("cat $BAAS_INPUT_IN/nine")
	next.Partitions[0].Inputs = map[string]tasklet.Input{"in": {Files: []tasklet.Source{
		{FileRef: refOf(t, end.results[5], "d"), URL: r.store.sign(refOf(t, end.results[5], "d").Key)},
	}}}
	if r.one(next); r.logOf(next, 0) != numbersTo(9) {
		t.Errorf("directory in a segment: %q", r.logOf(next, 0))
	}
}

func numbersTo(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintln(&b, i+1)
	}
	return b.String()
}

func TestLargeObjectsOfAPackAreTheirOwn(t *testing.T) {
	r := newRig(t, setup{})
	l := r.pack(`head -c 5000000 /dev/zero | tee $BAAS_OUTPUTS/big; echo small > $BAAS_OUTPUTS/z
		mkdir $BAAS_CHECKPOINT/c; echo 1 > $BAAS_CHECKPOINT/c/x; echo c > $BAAS_CHECKPOINT/commit`, 2)
	l.Segments.Every = time.Hour
	l.Outputs = []tasklet.Output{{Name: "big", Type: tasklet.TypeFile}, {Name: "z", Type: tasklet.TypeFile, Compress: tasklet.EncodingZstd}}
	r.launch(l)
	end := r.packed(l)
	if end.status.GetState() != mesos.TASK_FINISHED || len(end.segments) != 1 || end.segments[0].Size > 10_000 {
		t.Fatalf("%s: %s, %+v", end.status.GetState(), end.status.GetMessage(), end.segments)
	}
	for i, res := range end.results {
		big, z := refOf(t, res, "big"), refOf(t, res, "z")
		r.checkRef(big, string(make([]byte, 5_000_000)))
		if len(r.logged(res)) != 5_000_000 || big.Offset != 0 || z.Offset != 0 || !z.IsPacked() ||
			big.Key != fmt.Sprintf("%s/%d/output.big", l.TaskID, i) || res.Log.Key != fmt.Sprintf("%s/%d/log.", l.TaskID, i) {
			t.Errorf("%+v %+v %+v", big, z, res.Log)
		}
		if _, ok := r.store.get(fmt.Sprintf("%s/%d/checkpoint.", l.TaskID, i)); !ok {
			t.Errorf("partition %d has no checkpoint", i)
		}
	}
}

// A partition that is killed, over its time, or not to be begun at all is one
// result, and the others run.
func TestEndsInAPack(t *testing.T) {
	r := newRig(t, setup{})
	l := r.pack(`case $BAAS_PARTITION in 1) exec sleep 1000;; 2) echo begun > `+r.shared()+`/begun; exec sleep 1001;; esac`, 5)
	l.Limits.Timeout = 3 * time.Second
	l.Segments.Every = 50 * time.Millisecond
	r.launch(l)
	r.waitSegments(l.TaskID, 1) // of partition 0, while the next one runs
	r.waitLog(l, 1)
	r.agent.order(tasklet.Order{TaskID: l.TaskID, Kill: []int{3}})
	r.waitFile(r.shared() + "/begun")
	r.agent.order(tasklet.Order{TaskID: l.TaskID, Kill: []int{2, 3}})
	end := r.packed(l)
	want := []tasklet.Outcome{tasklet.Succeeded, tasklet.TimedOut, tasklet.Killed, tasklet.Killed, tasklet.Succeeded}
	for i, outcome := range want {
		if end.results[i].Outcome != outcome {
			t.Errorf("partition %d: %+v", i, end.results[i])
		}
	}
	if end.status.GetState() != mesos.TASK_FAILED || end.results[3].Log != nil {
		t.Errorf("%s %+v", end.status.GetState(), end.results[3])
	}
}

func TestSmallPackSendsOneUpdate(t *testing.T) {
	r := newRig(t, setup{tune: func(t *Tuning) { t.RunningAfter = time.Hour }})
	l := r.pack("true", 3)
	l.Segments.Every = time.Hour
	r.launch(l)
	if end := r.packed(l); len(end.results) != 3 || len(end.segments) != 1 {
		t.Errorf("%+v", end)
	}
	if got := r.agent.states(l.TaskID); !slices.Equal(got, []mesos.TaskState{mesos.TASK_FINISHED}) {
		t.Errorf("updates: %v", got)
	}
}

func TestKillOfAPack(t *testing.T) {
	r := newRig(t, setup{})
	l := r.pack("test $BAAS_PARTITION = 2 && exec sleep 1000; exit 0", 5)
	l.Segments.Every = 0
	r.store.set(func() { r.store.epoch++ }) // no segment can be stored yet
	r.launch(l)
	r.waitLog(l, 2)
	r.agent.kill(l.TaskID, 0)
	end := r.packed(l)
	if end.status.GetState() != mesos.TASK_KILLED || len(end.results) != 3 || end.results[2].Outcome != tasklet.Killed {
		t.Errorf("%s %+v", end.status.GetState(), end.results)
	}
}

func TestShutdownStoresTheLastSegment(t *testing.T) {
	r := newRig(t, setup{})
	l := r.pack("test $BAAS_PARTITION = 2 && exec sleep 1000; exit 0", 5)
	l.Segments.Every = time.Hour
	r.launch(l)
	r.agent.status(l.TaskID, mesos.TASK_RUNNING)
	r.waitLog(l, 2)
	r.agent.shutdown()
	r.exitCode()
	end := r.packed(l)
	if end.status.GetState() != mesos.TASK_KILLED || len(end.results) != 3 || len(end.segments) != 1 {
		t.Errorf("%s %+v", end.status.GetState(), end.results)
	}
}

// While storage refuses a segment, partitions run on; what they leave goes into the
// next one.
func TestSegmentIsRefusedAndRenewed(t *testing.T) {
	r := newRig(t, setup{})
	l := r.pack(`test $BAAS_PARTITION = 1 && read x < `+r.fifo("go")+`; exit 0`, 3)
	l.Segments.Every = 0
	r.store.set(func() { r.store.epoch++; r.store.silent = true })
	r.launch(l)
	r.agent.wait("question for the segment", func() bool {
		return slices.ContainsFunc(r.agent.reports, func(rep tasklet.Report) bool {
			return rep.Request != nil && rep.Request.Role == tasklet.RoleSegment && rep.Request.File == 0
		})
	})
	r.open("go")
	eventually(t, "third partition's end", func() bool {
		_, err := os.Stat(filepath.Join(r.sandbox, "logs", l.TaskID, "1.log"))
		return err != nil
	})
	r.store.set(func() { r.store.silent = false })
	if end := r.packed(l); end.status.GetState() != mesos.TASK_FINISHED || len(end.results) != 3 || len(end.segments) != 2 {
		t.Errorf("%s %d results in %d segments", end.status.GetState(), len(end.results), len(end.segments))
	}
}

// Results that cannot be stored are not told of, and nothing more is run.
func TestSegmentThatIsDenied(t *testing.T) {
	r := newRig(t, setup{})
	l := r.pack(`test $BAAS_PARTITION = 0 || sleep 0.1`, 1000)
	l.Segments.Every = 0
	r.store.set(func() { r.store.epoch++; r.store.denied[tasklet.RoleSegment] = "not yours" })
	r.launch(l)
	end := r.packed(l)
	if end.status.GetState() != mesos.TASK_FAILED || len(end.segments) != 0 || !strings.Contains(end.status.GetMessage(), "results not stored: the leader refused: not yours") {
		t.Errorf("%s: %s, %d segments", end.status.GetState(), end.status.GetMessage(), len(end.segments))
	}
	// A log that could not be stored stays, as it does of other tasks.
	eventually(t, "clean sandbox", func() bool {
		left := r.left()
		return len(left) == 0 || len(left) == 1 && left[0] == "logs/"+l.TaskID
	})
}

func TestAgentRestartWithAnUnacknowledgedSegment(t *testing.T) {
	r := newRig(t, setup{})
	l := r.pack(`test $BAAS_PARTITION = 0 || read x < `+r.fifo("go"), 4)
	l.Segments.Every = 0
	r.agent.withholdAcknowledgements(true)
	r.launch(l)
	r.waitSegments(l.TaskID, 1)
	r.open("go") // its result waits for the acknowledgement
	r.waitLog(l, 2)
	r.agent.stop()
	r.agent.start()
	r.agent.wait("second subscription", func() bool { return len(r.agent.subscribe) == 2 })
	r.agent.mu.Lock()
	carried := slices.Clone(r.agent.subscribe[1].UnacknowledgedUpdates)
	r.agent.mu.Unlock()
	segments := 0
	r.agent.withholdAcknowledgements(false)
	for _, u := range carried {
		if bytes.Contains(u.Status.Data, []byte(`"segment"`)) {
			segments++
		}
		r.agent.acknowledge(u.Status)
	}
	if told := len(r.told(l.TaskID)); segments != 1 || told != 1 {
		t.Errorf("%d segments were carried, %d told of before the acknowledgement", segments, told)
	}
	r.waitSegments(l.TaskID, 2)
	r.open("go")
	r.waitLog(l, 3)
	r.open("go")
	if end := r.packed(l); end.status.GetState() != mesos.TASK_FINISHED || len(end.results) != 4 {
		t.Errorf("%s %+v", end.status.GetState(), end.results)
	}
}

func TestLargePackLeavesNoFiles(t *testing.T) {
	r := newRig(t, setup{})
	l := r.pack("echo failed; exit 3", 1000)
	l.Segments.Every = time.Hour
	r.launch(l)
	end := r.packed(l)
	if len(end.results) != 1000 || len(end.segments) != 1 || !end.segments[0].More || len(end.segments[0].Failed) == 0 {
		t.Errorf("%d results in %d segments", len(end.results), len(end.segments))
	}
	for i := range 1000 {
		if end.results[i].ExitCode != 3 || r.logged(end.results[i]) != "failed\n" {
			t.Fatalf("%+v", end.results[i])
		}
	}
	eventually(t, "clean sandbox", func() bool { return len(r.left()) == 0 })
}

// A segment that is as large as it may be is followed by no more than another one.
func TestFullSegmentsHoldTheTask(t *testing.T) {
	r := newRig(t, setup{})
	l := r.pack("echo $BAAS_PARTITION", 9)
	l.Segments.Every, l.Segments.Size = time.Hour, 1
	r.agent.withholdAcknowledgements(true)
	r.launch(l)
	r.waitSegments(l.TaskID, 1)
	r.agent.mu.Lock()
	updates := slices.Clone(r.agent.updates)
	r.agent.mu.Unlock()
	if _, err := os.Stat(filepath.Join(r.sandbox, "logs", l.TaskID, "3.log")); err == nil {
		t.Error("more is run than can be told of")
	}
	r.agent.withholdAcknowledgements(false)
	for _, u := range updates {
		r.agent.acknowledge(u)
	}
	if end := r.packed(l); len(end.results) != 9 || len(end.segments) < 5 {
		t.Errorf("%d results in %d segments", len(end.results), len(end.segments))
	}
}

// Commands that start while the meter looks are nobody's strays, and do not put off
// that it looks at others.
func TestPackUnderAMeter(t *testing.T) {
	r := newRig(t, setup{tune: func(t *Tuning) { t.MeterFast, t.MeterSlow = time.Millisecond, time.Millisecond }})
	large := r.job("(head -c 40m /dev/zero; sleep 1000) | tail -n 1")
	large.Limits.Memory = 16 << 20
	l := r.pack("", 1500)
	l.Args = []string{"/bin/true"}
	r.launch(l)
	r.launch(large)
	if _, results := r.finish(large); results[0].Outcome != tasklet.OutOfMemory {
		t.Errorf("%+v", results[0])
	}
	if slices.Contains(r.agent.states(l.TaskID), mesos.TASK_FINISHED) {
		t.Error("the pack had ended before")
	}
	if end := r.packed(l); end.status.GetState() != mesos.TASK_FINISHED {
		t.Errorf("%s: %s", end.status.GetState(), end.status.GetMessage())
	}
}
