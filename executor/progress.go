package executor

import (
	"bytes"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/baas-batch/baas/tasklet"
)

// maxMessage bounds Progress.Message, in bytes.
const maxMessage = 200

// repeatProgress is how often progress is told again although it is the same:
// the message may be lost, and the leader may be another one.
const repeatProgress = 30 * time.Second

// followProgress reads a partition's progress file until stop is closed, and
// tells of each change, without secrets.
func followProgress(stop <-chan struct{}, every time.Duration, dir string, u user, r *redactor, tell func(tasklet.Progress)) {
	var last []byte
	var told time.Time
	for ok := true; ok; ok = pauseUntil(stop, every) {
		data, err := readSmall(dir, progressFile, u, 4<<10)
		if err != nil || bytes.Equal(data, last) && time.Since(told) < repeatProgress {
			continue
		}
		last = data
		if p, ok := parseProgress(r.text(string(data))); ok {
			told = time.Now()
			tell(p)
		}
	}
}

// parseProgress reads the last whole line of "done/total message" or "done message".
func parseProgress(text string) (tasklet.Progress, bool) {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	amount, message, _ := strings.Cut(strings.TrimSpace(lines[len(lines)-1]), " ")
	done, total, hasTotal := strings.Cut(amount, "/")
	p := tasklet.Progress{Message: printable(message, maxMessage)}
	var err error
	if p.Done, err = number(done); err != nil {
		return p, false
	}
	if hasTotal {
		if p.Total, err = number(total); err != nil {
			return p, false
		}
	}
	return p, true
}

func number(s string) (float64, error) {
	n, err := strconv.ParseFloat(s, 64)
	if err == nil && (math.IsNaN(n) || math.IsInf(n, 0) || n < 0) {
		err = strconv.ErrRange
	}
	return n, err
}

// pauseUntil waits for d, or returns false when stop is closed first.
func pauseUntil(stop <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-stop:
		return false
	}
}
