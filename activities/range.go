package activities

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/tasklet"
)

// ranged is what the leader knows of the partitions of a Range: a few bytes of each.
// Their results lie in storage, in segments; whatever is here can be told from these.
type ranged struct {
	first int
	parts []part
	n     [states]int            // partitions by state
	next  int                    // no position before it waits
	due   []retry                // partitions in a backoff, by time
	after map[int]tasklet.Result // by attempt, the last one that failed, for people

	open      bool     // nothing of an earlier run is in the way
	loaded    bool     // the segments that were there have been read
	loading   bool     // they are being read
	postponed []func() // until then

	results []tasklet.Result // that only the leader gives, and that are in no segment yet
	asked   bool             // partitions are to be killed
	reason  string           // of that
	gaveUp  bool             // too many have failed
	ordered bool             // orders to kill partitions are repeated

	merging bool // the manifest is being written
	absent  int  // times that results which were told of were not there
	result  *api.RangeResult

	launched int
	most     int // packs that details have room for; 0 while not known
	known    int // highest generation that this leader knew of before it read the details
	max      int // Range.MaxDetails
	pace     *pace
	wakes    time.Time // when the next of due is looked at
	items    itemCache
}

// part is one partition.
type part struct {
	state   partState
	killing bool   // on request
	tries   uint16 // attempts that have failed
}

type partState uint8

const (
	partWaits  partState = iota
	partTaken            // by a pack
	partPauses           // after a failure, until its time has come
	partDone             // well
	partFailed           // for good
	partKilled           // or given up
	states
)

func (s partState) final() bool { return s >= partDone }

// retry is a partition that is to be tried again.
type retry struct {
	at        int64 // Unix nanoseconds
	partition int32
}

// bitmap has bit i at byte i/8, lowest first.
type bitmap []byte

func (b bitmap) has(i int) bool { return i>>3 < len(b) && b[i>>3]&(1<<(i&7)) != 0 }

func (b *bitmap) set(i int) {
	for len(*b) <= i>>3 {
		*b = append(*b, 0)
	}
	(*b)[i>>3] |= 1 << (i & 7)
}

func newRanged(first, count int) *ranged {
	r := &ranged{first: first, parts: make([]part, count)}
	r.n[partWaits] = count
	return r
}

func (r *ranged) has(partition int) bool {
	return partition >= r.first && partition-r.first < len(r.parts)
}

func (r *ranged) at(partition int) *part { return &r.parts[partition-r.first] }

func (r *ranged) finished(partition int) bool {
	return r.has(partition) && r.at(partition).state.final()
}

func (r *ranged) done() int { return r.n[partDone] + r.n[partFailed] + r.n[partKilled] }

func (r *ranged) set(partition int, s partState) {
	p := r.at(partition)
	r.n[p.state]--
	r.n[s]++
	p.state = s
	if s == partWaits {
		r.next = min(r.next, partition-r.first)
	}
}

// pause lets a partition be tried again after its time.
func (r *ranged) pause(partition int, at time.Time) {
	one := retry{at.UnixNano(), int32(partition)}
	if r.at(partition).state == partPauses { // after an earlier attempt
		r.due = slices.DeleteFunc(r.due, func(old retry) bool { return old.partition == one.partition })
	}
	i, _ := slices.BinarySearchFunc(r.due, one, func(a, b retry) int {
		if a.at <= b.at { // behind its equals
			return -1
		}
		return 1
	})
	r.due = slices.Insert(r.due, i, one)
	r.set(partition, partPauses)
}

// pick takes partitions of one attempt, as many as size says: those whose backoff is
// over first.
func (r *ranged) pick(size func(attempt int) int, now time.Time) (members []int32, attempt int) {
	if members, attempt = r.pickDue(size, now); len(members) > 0 {
		return members, attempt
	}
	n := 0
	for ; r.next < len(r.parts); r.next++ {
		p := &r.parts[r.next]
		if p.state != partWaits {
			continue
		}
		if attempt == 0 {
			attempt = int(p.tries) + 1
			n = size(attempt)
		}
		if len(members) >= n || int(p.tries)+1 != attempt {
			break
		}
		members = append(members, int32(r.first+r.next))
	}
	r.take(members)
	return members, attempt
}

func (r *ranged) pickDue(size func(attempt int) int, now time.Time) (members []int32, attempt int) {
	kept, n := r.due[:0], 0
	for i, one := range r.due {
		if one.at > now.UnixNano() {
			kept = append(kept, r.due[i:]...)
			break
		}
		p := r.at(int(one.partition))
		switch {
		case p.state != partPauses: // killed meanwhile
		case attempt == 0:
			attempt = int(p.tries) + 1
			n = size(attempt)
			members = append(members, one.partition)
		case int(p.tries)+1 == attempt && len(members) < n:
			members = append(members, one.partition)
		default:
			kept = append(kept, one)
		}
	}
	r.due = kept
	slices.Sort(members)
	r.take(members)
	return members, attempt
}

func (r *ranged) take(members []int32) {
	for _, i := range members {
		r.set(int(i), partTaken)
	}
}

// decide makes a result count that only the leader gives.
func (r *ranged) decide(one tasklet.Result) {
	if !r.has(one.Partition) || r.finished(one.Partition) {
		return
	}
	r.results = append(r.results, one)
	r.set(one.Partition, finalState(one.Outcome))
}

func finalState(o tasklet.Outcome) partState {
	switch o {
	case tasklet.Succeeded:
		return partDone
	case tasklet.Killed:
		return partKilled
	}
	return partFailed
}

// spans gives partitions as spans; nil where they are in a row from first on.
func spans(first int, members []int32) (list [][2]int) {
	for _, i := range members {
		if n := len(list); n > 0 && list[n-1][1] == int(i)-1 {
			list[n-1][1] = int(i)
			continue
		}
		list = append(list, [2]int{int(i), int(i)})
	}
	if len(list) == 1 && list[0][0] == first {
		return nil
	}
	return list
}

// membersOf are the partitions that a task of a Range holds.
func membersOf(t api.TaskDetail, r *ranged) (members []int32) {
	parts := t.Parts
	if len(parts) == 0 {
		parts = [][2]int{{t.First, t.First + t.Count - 1}}
	}
	for _, s := range parts {
		for i := max(s[0], r.first); i <= s[1] && r.has(i); i++ {
			members = append(members, int32(i))
		}
	}
	return members
}

// members gives the partitions of a pack; nil for one of a plain step.
func (e *entry) members(list []int) (members []int32) {
	if e.ranged == nil {
		return nil
	}
	for _, i := range list {
		members = append(members, int32(i))
	}
	return members
}

// partitionsOf is how many partitions an input has, tasksOf how many tasks it
// begins with, as far as is known before.
func partitionsOf(in *api.LaunchInput) int {
	if in.Range != nil {
		return in.Range.Count
	}
	return len(in.Partitions)
}

func tasksOf(in *api.LaunchInput) int {
	if in.Range == nil {
		return len(in.Partitions)
	}
	n := min(in.Range.Count, window)
	if in.Range.Parallel > 0 {
		n = min(n, in.Range.Parallel)
	}
	return n
}

// lastOf is the highest partition of an input.
func lastOf(in *api.LaunchInput) int {
	if in.Range != nil {
		return in.Range.First + in.Range.Count - 1
	}
	return in.Partitions[len(in.Partitions)-1].Index
}

// maxRange bounds the partitions of one Range.
const maxRange = 100_000

// checkRange refuses what no workflow of ours makes.
func checkRange(in api.LaunchInput) error {
	r := in.Range
	switch {
	case len(in.Partitions) > 0:
		return errors.New("either partitions or a range may be given")
	case r.First < 0 || r.Count < 1 || r.Count > maxRange:
		return fmt.Errorf("a range has 1 to %d partitions", maxRange)
	case r.Items.List != nil && len(r.Items.List) != r.Count:
		return fmt.Errorf("a range of %d partitions has %d items", r.Count, len(r.Items.List))
	case r.Items.Object == nil:
	case r.Items.Object.N < r.First+r.Count:
		return fmt.Errorf("partitions up to %d have %d items", r.First+r.Count-1, r.Items.Object.N)
	default:
		return mayRead(in.App, in.Owner, r.Items.Object.Key)
	}
	return storage.CheckKey(api.StepPrefix(in.App, in.Run, in.Step) + "x")
}

// attachRange goes on with a Range that Temporal has handed over. What lies in
// storage is read beside the entry's events: there may be thousands of segments.
func (e *entry) attachRange(again bool) {
	in := e.in.Range
	if e.ranged == nil {
		e.ranged = newRanged(in.First, in.Count)
	}
	r := e.ranged
	r.max = in.MaxDetails
	if r.pace == nil {
		r.pace = e.h.paces.enter(&e.in.LaunchInput)
	}
	if !again {
		r.loaded = true
	}
	if !r.loaded {
		e.load()
		return
	}
	e.resume()
}

// adoptRange takes over what details say.
func (e *entry) adoptRange(d api.RangeDetail, count int) {
	if e.ranged == nil {
		if count < 1 || count > maxRange {
			e.log().Error("details of a range that cannot be", "partitions", count)
			count = min(max(count, 1), maxRange)
		}
		e.ranged = newRanged(d.First, count)
		e.ranged.max = d.MaxDetails
	}
	r := e.ranged
	r.known = e.used(0)
	e.use(0, d.Sequence)
	r.launched = max(r.launched, d.Launched)
	for _, s := range d.Killing {
		for i := max(s[0], r.first); i <= s[1] && r.has(i); i++ {
			r.at(i).killing, r.asked, r.reason = true, true, d.Reason
		}
	}
}

// adoptMembers gives an adopted pack its partitions; false when nothing is left of
// it, or this leader knows better.
func (e *entry) adoptMembers(p *pack, t api.TaskDetail) bool {
	if e.find(t.First, t.Generation) != nil || t.Generation <= e.ranged.known {
		return false
	}
	p.members = membersOf(t, e.ranged)
	for _, i := range p.members {
		one := e.ranged.at(int(i))
		if one.state == partWaits || one.state == partPauses {
			e.ranged.set(int(i), partTaken)
		}
		// Another task may have it still, where it has failed before.
		one.tries = max(one.tries, uint16(max(0, p.attempt-1)))
	}
	return len(p.members) > 0
}
