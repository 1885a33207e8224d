package activities

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/tasklet"
)

// What details say of backoffs at most: attempts, and spans of partitions of each.
const (
	maxBackoffs     = 4
	maxBackoffSpans = 8
	maxBackoffWords = 200 // bytes of a reason
)

// failedLast keeps what people are told of the failures of one attempt.
func (r *ranged) failedLast(attempt int, res tasklet.Result) {
	if r.after == nil {
		r.after = make(map[int]tasklet.Result)
	}
	res.Outputs, res.Log, res.Reason = nil, nil, cut(res.Reason, maxBackoffWords)
	r.after[attempt] = res
}

// whyPauses says what the partitions of a Range wait for that no pack has.
func (e *entry) whyPauses() string {
	if e.ranged == nil {
		return ""
	}
	list := e.ranged.backoffs()
	if len(list) == 0 {
		return ""
	}
	next := list[0]
	text := fmt.Sprintf("%d of its partitions wait for attempt %d, the first until %s", next.Count, next.Attempt, next.Until.Format(time.RFC3339))
	if next.After.Reason != "" {
		text += ": " + next.After.Reason
	}
	return text
}

// backoffs tells of the partitions that wait for another attempt.
func (r *ranged) backoffs() []api.BackoffDetail {
	byAttempt := make(map[int]*api.BackoffDetail)
	members := make(map[int][]int32)
	for _, one := range r.due { // by time
		p := r.at(int(one.partition))
		if p.state != partPauses {
			continue // killed meanwhile
		}
		next := int(p.tries) + 1
		if byAttempt[next] == nil {
			byAttempt[next] = &api.BackoffDetail{
				Attempt: next, Until: time.Unix(0, one.at).UTC().Truncate(time.Second), After: r.after[next-1],
			}
		}
		byAttempt[next].Count++
		members[next] = append(members[next], one.partition)
	}
	var list []api.BackoffDetail
	for _, attempt := range slices.Sorted(maps.Keys(byAttempt)) {
		d := byAttempt[attempt]
		slices.Sort(members[attempt])
		d.Parts = spans(-1, members[attempt])
		d.Parts = d.Parts[:min(len(d.Parts), maxBackoffSpans)]
		list = append(list, *d)
	}
	slices.SortStableFunc(list, func(a, b api.BackoffDetail) int { return cmp.Compare(a.Until.UnixNano(), b.Until.UnixNano()) })
	return list[:min(len(list), maxBackoffs)]
}
