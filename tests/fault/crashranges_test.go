package fault

import (
	"slices"
	"testing"
)

// rangeCrashes are those that ranges have, or come by another way.
var rangeCrashes = slices.Concat(
	call("signature for segment", 12, underWay),
	call("write-ahead", 4, underWay),
	call("ACCEPT", 3, underWay),
	event("UPDATE of a segment", 2, underWay),
	call("heartbeat", 5, underWay),
	call("ACKNOWLEDGE of a segment", 2, underWay),
	event("UPDATE of an end", 4, underWay),
	call("ACKNOWLEDGE of an end", 4, underWay),

	call("list of segments", 2, takingOver),
	call("read of segment", 3, takingOver),
	event("UPDATE as an answer", 1, takingOver),
	[]crash{
		{point: "after list of segments", within: 1, when: takingOver, first: "after write of manifest"},
		{point: "before write of manifest", within: 1, when: takingOver, first: "before completion"},
	},

	call("write of manifest", 4, ending),
	call("completion", 4, ending),
)

// mixedRanges is mixed, with packs that wait at the gate when some of their partitions
// have ended.
func mixedRanges() Flow {
	f := mixed().InRanges()
	work := &f.Steps[1]
	work.Tasks = 10
	return f
}

// A worker dies at each point of the hand-off of ranges.
func TestCrashInRanges(t *testing.T) {
	t.Parallel()
	w := newCrashWorld(t)
	w.each(rangeCrashes, scene{flow: mixedRanges, judge: w.judge})
	w.oneFramework(1)
	w.report()
}
