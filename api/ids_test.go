package api

import (
	"slices"
	"strings"
	"testing"

	"github.com/baas-batch/baas/tasklet"
)

func TestRunID(t *testing.T) {
	digest := strings.Repeat("0123456789abcdef", 4)
	instance := InstanceID("statements", digest)
	if instance != "statements-0123456789abcdef" {
		t.Errorf("instance %s", instance)
	}
	run := RunID(instance, "01a2064c-2b61-73d9-82f6-d216d6366659")
	back, suffix, err := SplitRunID(run)
	if err != nil || back != instance || suffix != "d6366659" {
		t.Errorf("%s: %s, %s, %v", run, back, suffix, err)
	}
	for _, wrong := range []string{"", "x", "-12345678", "statements-1234567", "statements"} {
		if _, _, err := SplitRunID(wrong); err == nil {
			t.Errorf("%q is taken", wrong)
		}
	}
}

// The longest names still make a task ID that Mesos takes.
func TestLongestTaskID(t *testing.T) {
	name := strings.Repeat("n", MaxNameLength)
	id := tasklet.TaskID{
		WorkflowID: InstanceID(name, strings.Repeat("f", 64)), RunID: "01a2064c-2b61-73d9-82f6-d216d6366659",
		ActivityID: name + "-1000000", First: 999999, Generation: 99999,
	}
	if err := id.Validate(); err != nil {
		t.Error(err)
	}
}

// Listings give attempts and generations in the order of their age.
func TestKeysSortByAge(t *testing.T) {
	prefix := StepPrefix("app", "app-1-00000001", "work")
	var keys []string
	for _, try := range [][2]int{{1, 1}, {1, 2}, {1, 10}, {2, 1}, {10, 1}} {
		keys = append(keys, CheckpointKey(prefix, 7, try[0], try[1]))
	}
	if !slices.IsSorted(keys) {
		t.Errorf("not in order: %v", keys)
	}
	for _, key := range keys {
		if !strings.HasPrefix(key, CheckpointPrefix(prefix, 7)) {
			t.Errorf("%s is not below %s", key, CheckpointPrefix(prefix, 7))
		}
	}
	if strings.HasPrefix(ResultKey(prefix, "work-11", 0, 1), ResultPrefix(prefix, "work-1")) {
		t.Error("the results of one activity are found for another")
	}
}
