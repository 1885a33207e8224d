package workflows

import (
	"cmp"
	"time"
)

// Temporal's limits behind these: 2 MB per payload and query answer, 4 MB per
// request of a worker (a completed workflow task with all its new activities), 2,000
// pending activities per run, and one second of computing without a wait.
const (
	maxPending              = 1800
	defaultHeartbeatTimeout = 2 * time.Minute
	// shortHeartbeat is for activities that workers heartbeat for while they run: one
	// that is lost with its worker is tried again after that time.
	shortHeartbeat = 10 * time.Second

	maxRange          = 50      // partitions of one activity
	rangesPerStep     = 200     // activities that a step is cut into before ranges grow
	maxRangeBytes     = 256_000 // inputs of one activity
	maxPartitionBytes = 1_000_000
	maxStepOutputs    = 1_000_000 // bytes, inline
	maxRunOutputs     = 1_500_000 // bytes, inline

	// Ranges of a step with many partitions.
	maxRanges     = 64   // pending in one run, and about as many in one step
	minRangeSize  = 5000 // partitions, where a step could have fewer than maxRanges
	maxRangeItems = 256 << 10
	// Details of all pending activities come together in one answer of Temporal's.
	maxRangeDetails = 4 << 20 / maxRanges

	// The state of a run is one payload: parameters, steps and their outputs.
	maxState     = 1_900_000 // bytes
	stateOfStep  = 600       // bytes, without reason and outputs
	maxReason    = 600       // bytes
	maxAllReason = 200_000   // bytes

	// One turn of the loop is one workflow task.
	maxTurnBytes      = 1_500_000
	maxTurnPartitions = 1000

	// forever is for activities that last as long as the user's work does: the
	// executor keeps the time limits.
	forever = 5 * 365 * 24 * time.Hour
)

func clamp[T cmp.Ordered](v, low, high T) T { return max(low, min(v, high)) }

// rangeSize is how many partitions share one activity: one each up to a few
// hundred, then more, but never so many that a bound on parallelism is served by
// fewer than four ranges, as a range ends with its slowest partition.
func rangeSize(partitions, parallel int) int {
	size := clamp(partitions/rangesPerStep, 1, maxRange)
	if parallel <= 0 {
		return size
	}
	size = min(size, max(1, parallel/4))
	ranges := (parallel + size - 1) / size
	return max(1, parallel/ranges)
}
