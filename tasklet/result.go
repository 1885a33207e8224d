package tasklet

import (
	"encoding/json"
	"time"
)

// Outcome says how one partition ended.
type Outcome string

const (
	Succeeded   Outcome = "succeeded"
	Failed      Outcome = "failed"        // exit code other than 0, a signal of its own, or a missing output
	TimedOut    Outcome = "timed out"     // over its time limit
	OutOfMemory Outcome = "out of memory" // over its memory limit
	DiskFull    Outcome = "disk full"     // over its disk limit
	Killed      Outcome = "killed"        // on request
	Invalid     Outcome = "invalid"       // cannot run as described: no such command, bad bundle
	// Platform is not the user's doing (an input that storage would not give, a
	// full sandbox disk): it is placed again and not charged to retry.
	Platform Outcome = "platform"
)

// Result is what became of one partition. The platform's own losses have no
// Result: whoever is dead cannot write one.
type Result struct {
	Partition  int                        `json:"i"`
	Attempt    int                        `json:"attempt,omitempty"` // from 1; in segments and manifests
	Outcome    Outcome                    `json:"outcome"`
	ExitCode   int                        `json:"exit"`             // -1 when there was no exit
	Signal     string                     `json:"signal,omitempty"` // such as "SIGSEGV"
	ExitStatus string                     `json:"status,omitempty"` // from BAAS_EXIT_STATUS
	Reason     string                     `json:"reason,omitempty"` // one sentence for a person
	Outputs    map[string]json.RawMessage `json:"outputs,omitempty"`
	Usage      Usage                      `json:"usage"`
	Started    time.Time                  `json:"started"`
	Ended      time.Time                  `json:"ended"`
	Log        *FileRef                   `json:"log,omitempty"`
	Agent      string                     `json:"agent,omitempty"` // host name
	Resumed    bool                       `json:"resumed,omitempty"`
}

// Usage is what the process tree of one partition used, and what its inputs cost.
type Usage struct {
	CPUSeconds float64 `json:"cpu"`
	PeakMemory int64   `json:"mem"`  // bytes, the highest sum over the tree that was seen
	WallTime   float64 `json:"wall"` // seconds

	// Bytes of inputs that came from storage, and from the executor's cache.
	Fetched int64 `json:"fetched,omitempty"`
	Cached  int64 `json:"cached,omitempty"`
}

// Add sums up; PeakMemory is the higher one.
func (u *Usage) Add(v Usage) {
	u.CPUSeconds += v.CPUSeconds
	u.PeakMemory = max(u.PeakMemory, v.PeakMemory)
	u.WallTime += v.WallTime
	u.Fetched += v.Fetched
	u.Cached += v.Cached
}

// ResultObject is what the executor stores under Launch.Result before it sends
// the terminal status.
type ResultObject struct {
	TaskID  string   `json:"task"`
	Results []Result `json:"results"` // in the order of Launch.Partitions; fewer when the task was killed
}

// MaxStatusData bounds StatusData as JSON, in bytes. Results that do not fit are
// in the result object only.
const MaxStatusData = 64 << 10

// StatusData rides in TaskStatus.data of every update that the executor sends.
type StatusData struct {
	// Sandbox is the executor's sandbox as the agent's /files endpoints know it,
	// Log the path of partition logs below it with "%d" for the index.
	Sandbox string `json:"sandbox,omitempty"`
	Log     string `json:"log,omitempty"`

	// Results is set on terminal updates; InStorage says that it was too large
	// and stands in the result object only. Stored says that there is a result
	// object: without it, this update is all that is known of the results.
	Results   []Result `json:"results,omitempty"`
	InStorage bool     `json:"in_storage,omitempty"`
	Stored    bool     `json:"stored,omitempty"`

	// Segment is one that has just been stored, of a task with Launch.Segments:
	// in a RUNNING update, or the last one in the terminal update.
	Segment *Segment `json:"segment,omitempty"`
}

// Segment says what a stored segment holds. Partitions are named by their position
// in Launch.Partitions.
type Segment struct {
	Number int   `json:"n"`    // from 0, without gaps
	Size   int64 `json:"size"` // bytes of the object
	// Done has bit i (of byte i/8, lowest first) set when the segment holds the
	// result of the partition at position i, however it ended.
	Done []byte `json:"done"`
	// Failed are the results other than Succeeded, without outputs, as long as they
	// fit; More says that some did not, and that the segment has to be read.
	Failed []Result `json:"failed,omitempty"`
	More   bool     `json:"more,omitempty"`
	// Seconds from the begin of the first to the end of the last of these
	// partitions, with what the executor itself took.
	Seconds float64 `json:"seconds"`
	Usage   Usage   `json:"usage"` // sums; PeakMemory is the highest
}
