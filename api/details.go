package api

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/baas-batch/baas/tasklet"
)

// Details are the heartbeat details of RunTasklets: what a leader that comes new
// must know, and what people see in the Temporal Web UI, which shows the fields in
// this order. At most MaxDetails bytes.
type Details struct {
	State  string        `json:"state"`            // of all tasks together: "waiting", "placing", "running", "held", "killing"
	Reason string        `json:"reason,omitempty"` // why it waits, or what was lost
	Since  time.Time     `json:"since"`
	Done   int           `json:"done,omitempty"` // partitions with a durable result
	Total  int           `json:"total"`
	Tasks  []TaskDetail  `json:"tasks,omitempty"` // placed and not finished
	Agents []AgentDetail `json:"agents,omitempty"`
	Image  string        `json:"image,omitempty"` // as Mesos is told it
	// Attempt is LaunchInput.Attempt: keys of objects hold it.
	Attempt int    `json:"attempt"`
	Prefix  string `json:"prefix"` // StepPrefix
	// Generations is the highest generation used, by first partition, where a
	// task is not in Tasks any more.
	Generations map[int]int `json:"generations,omitempty"`
	// Losses is what the platform has lost of partitions that are not finished.
	Losses []LossDetail `json:"losses,omitempty"`
	// Range is set for an activity with LaunchInput.Range.
	Range *RangeDetail `json:"range,omitempty"`
	// Replaced is LaunchResult.Replaced so far.
	Replaced  int    `json:"replaced,omitempty"`
	Leader    string `json:"leader,omitempty"`
	Framework string `json:"framework,omitempty"`
	// Token is the task token of the attempt that the leader took over. A new
	// leader gives the attempt back with it, fenced, when it needs the input.
	Token []byte `json:"token,omitempty"`
	// Packed holds what Pack has taken out; UnmarshalJSON puts it back.
	Packed []byte `json:"packed,omitempty"`
}

// MaxDetails bounds Details as JSON, in bytes: 2,000 pending activities of one
// run must stay well under Temporal's limits together.
const MaxDetails = 4 << 10

// AgentDetail is an agent that holds tasks of the activity.
type AgentDetail struct {
	Host     string `json:"host"`
	Endpoint string `json:"endpoint,omitempty"` // host:port of its HTTP API
	ID       string `json:"id"`
	Sandbox  string `json:"sandbox,omitempty"` // of the executor that serves the tasks
}

// TaskDetail is one Mesos task.
type TaskDetail struct {
	State    string `json:"state"` // a mesos.State, "PLACING" before the ACCEPT, or "HELD"
	Progress string `json:"progress,omitempty"`
	// UnreachableSince is when the wait for the agent began.
	UnreachableSince *time.Time `json:"unreachable_since,omitempty"`
	// Held is set while the task waits for a person's word; Count is 1.
	Held       *HeldDetail `json:"held,omitempty"`
	First      int         `json:"first"`
	Count      int         `json:"count"`
	Generation int         `json:"generation"`
	Agent      int         `json:"agent"`         // index in Details.Agents
	Log        string      `json:"log,omitempty"` // tasklet.StatusData.Log, below the sandbox
	// Attempt of its partitions, where it is not Details.Attempt.
	Attempt int `json:"attempt,omitempty"`
	// Parts are the partitions as spans, first and last each, where they are not
	// Count in a row.
	Parts [][2]int `json:"parts,omitempty"`
}

// RangeDetail is how a Range stands. The results lie in storage, in segments; this
// is what they do not tell, and sums for people.
type RangeDetail struct {
	First   int `json:"first"`
	Failed  int `json:"failed,omitempty"`  // for good
	Killed  int `json:"killed,omitempty"`  // or given up
	Running int `json:"running,omitempty"` // in tasks that have a place
	// Bitmap has bit i (of byte i/8, lowest first) set when partition First+i is
	// done, compressed (RFC 1951). Absent where there is no room.
	Bitmap []byte `json:"bitmap,omitempty"`
	// Sequence is the highest generation used.
	Sequence int `json:"seq,omitempty"`
	Launched int `json:"launched,omitempty"` // tasks
	// Killing are partitions that are to be killed, as spans, and why.
	Killing [][2]int `json:"killing,omitempty"`
	Reason  string   `json:"why_killing,omitempty"`
	// Backoffs are the pauses before other attempts, the next ones first.
	Backoffs []BackoffDetail `json:"backoffs,omitempty"`
	// MaxDetails is that of the Range.
	MaxDetails int `json:"max,omitempty"`
}

// BackoffDetail are partitions that wait for the same attempt.
type BackoffDetail struct {
	Attempt int       `json:"attempt"` // the next one
	Until   time.Time `json:"until"`   // of the first of them
	Count   int       `json:"count"`
	Parts   [][2]int  `json:"parts"` // as spans, the first of many
	// After is the last failure of one of them.
	After tasklet.Result `json:"after"`
}

// Deflate compresses, as RangeDetail.Bitmap is.
func Deflate(plain []byte) ([]byte, error) {
	var out bytes.Buffer
	w := compressors.Get().(*flate.Writer)
	defer compressors.Put(w)
	w.Reset(&out)
	if _, err := w.Write(plain); err != nil {
		return nil, err
	}
	err := w.Close()
	return out.Bytes(), err
}

// Paused counts the partitions that wait for another attempt; r may be nil.
func (r *RangeDetail) Paused() (n int) {
	if r == nil {
		return 0
	}
	for _, b := range r.Backoffs {
		n += b.Count
	}
	return n
}

// Unplaced counts the partitions that wait for an agent.
func (d *Details) Unplaced() int {
	n := d.Total - d.Done - d.Range.Paused()
	if d.Range != nil {
		n -= d.Range.Running
	}
	for _, t := range d.Tasks {
		// Of a pack that runs, some may be done: Range.Running has the others.
		if d.Range == nil || t.State != "RUNNING" {
			n -= t.Count
		}
	}
	return max(0, n)
}

// Holds tells whether a partition is in the task.
func (t TaskDetail) Holds(partition int) bool {
	if len(t.Parts) > 0 {
		return slices.ContainsFunc(t.Parts, func(s [2]int) bool { return s[0] <= partition && partition <= s[1] })
	}
	return partition >= t.First && partition < t.First+t.Count
}

// Last is the last partition of the task.
func (t TaskDetail) Last() int {
	if n := len(t.Parts); n > 0 {
		return t.Parts[n-1][1]
	}
	return t.First + max(t.Count, 1) - 1
}

// Ended gives what tells of a partition whether it has ended, however. Of nil and
// of what has no room for the bitmap, none has.
func (r *RangeDetail) Ended() func(partition int) bool {
	if r == nil || len(r.Bitmap) == 0 {
		return func(int) bool { return false }
	}
	bits, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(r.Bitmap)), maxPackedPartitions/8+1))
	if err != nil {
		bits = nil
	}
	return func(partition int) bool {
		i := partition - r.First
		return i >= 0 && i/8 < len(bits) && bits[i/8]&(1<<(i%8)) != 0
	}
}

// HeldDetail says since when and why the platform leaves it to a person to tell
// what became of a task: it was to run at most once, and is lost.
type HeldDetail struct {
	Since  time.Time `json:"since"`
	Reason string    `json:"reason,omitempty"`
}

// LossDetail is what the platform has lost of one pack of partitions, so that a
// new leader neither begins to count anew nor returns to the same agents.
type LossDetail struct {
	First int `json:"first"` // partition that the pack begins with
	Count int `json:"count"` // placements that were lost
	// Refused counts those of them that Mesos could not start at all.
	Refused int `json:"refused,omitempty"`
	// Crashes counts those that went down together with their executor, Alone
	// those of them in which no other task ran there.
	Crashes int `json:"crashes,omitempty"`
	Alone   int `json:"alone,omitempty"`
	// Suspect: it may be what takes executors down, and gets one of its own.
	Suspect bool  `json:"suspect,omitempty"`
	Agents  []int `json:"agents,omitempty"` // that have lost it: indexes in Details.Agents
}

// packed is what Details.Packed holds, as compressed JSON. Generations are runs of
// equal ones: first and last partition, generation.
type packed struct {
	Tasks       []TaskDetail  `json:"t,omitempty"`
	Agents      []AgentDetail `json:"a,omitempty"`
	Losses      []LossDetail  `json:"l,omitempty"`
	Generations [][3]int      `json:"g,omitempty"`
}

// compressors are kept, since each takes a megabyte or so.
var compressors = sync.Pool{New: func() any {
	w, _ := flate.NewWriter(nil, flate.BestCompression) // fails for other levels only
	return w
}}

// Pack gives the details in a form for many tasks: their lists are compressed, to
// about a fifth. People see the sums only, programs that read the JSON into a
// Details see everything.
func (d Details) Pack() (Details, error) {
	p := packed{Tasks: d.Tasks, Agents: d.Agents, Losses: d.Losses}
	for _, first := range slices.Sorted(maps.Keys(d.Generations)) {
		generation := d.Generations[first]
		if n := len(p.Generations); n > 0 && p.Generations[n-1][1] == first-1 && p.Generations[n-1][2] == generation {
			p.Generations[n-1][1] = first
			continue
		}
		p.Generations = append(p.Generations, [3]int{first, first, generation})
	}
	plain, err := json.Marshal(p)
	if err != nil {
		return d, err
	}
	small, err := Deflate(plain)
	if err != nil {
		return d, err
	}
	d.Tasks, d.Agents, d.Losses, d.Generations = nil, nil, nil, nil
	d.Packed = small
	return d, nil
}

// maxUnpacked bounds what Packed may hold, in bytes.
const maxUnpacked = 16 << 20

// UnmarshalJSON reads both forms.
func (d *Details) UnmarshalJSON(data []byte) error {
	type plain Details
	if err := json.Unmarshal(data, (*plain)(d)); err != nil {
		return err
	}
	if d.Packed == nil {
		return nil
	}
	var p packed
	in := flate.NewReader(bytes.NewReader(d.Packed))
	if err := json.NewDecoder(io.LimitReader(in, maxUnpacked)).Decode(&p); err != nil {
		return fmt.Errorf("packed details: %w", err)
	}
	d.Tasks, d.Agents, d.Losses, d.Packed = p.Tasks, p.Agents, p.Losses, nil
	for _, run := range p.Generations {
		for first := run[0]; first <= run[1] && len(d.Generations) <= maxPackedPartitions; first++ {
			if d.Generations == nil {
				d.Generations = make(map[int]int)
			}
			d.Generations[first] = run[2]
		}
	}
	return nil
}

// maxPackedPartitions bounds the runs of Generations.
const maxPackedPartitions = 1_000_000
