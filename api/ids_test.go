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

// FuzzSplitRunID: what is taken is put together again from its halves, and all
// that RunID makes is taken.
func FuzzSplitRunID(f *testing.F) {
	f.Add("statements-9f86d081884c7d65-5e2f91aa", "01a2064c-2b61-73d9-82f6-d216d6366659")
	f.Add("a--1234567", "short")
	f.Add("-12345678", "\xff-é")
	f.Fuzz(func(t *testing.T, run, first string) {
		if instance, suffix, err := SplitRunID(run); err == nil {
			if instance == "" || strings.Contains(suffix, "-") || RunID(instance, suffix) != run {
				t.Errorf("%q became %q and %q", run, instance, suffix)
			}
		}
		if len(first) < runSuffix || strings.Contains(first[len(first)-runSuffix:], "-") || run == "" {
			return
		}
		instance, suffix, err := SplitRunID(RunID(run, first))
		if err != nil || instance != run || !strings.HasSuffix(first, suffix) {
			t.Errorf("run %q of %q became %q and %q, %v", first, run, instance, suffix, err)
		}
	})
}

// FuzzKeys: keys of different objects of a step differ, and lie below its prefix.
func FuzzKeys(f *testing.F) {
	f.Add(0, 1, 1, 1, 2, 1)
	f.Add(1, 11, 1, 11, 1, 1)
	f.Add(1000, 99999, 99999, 999999, 1, 1)
	f.Fuzz(func(t *testing.T, partition, attempt, generation, partition2, attempt2, generation2 int) {
		for _, n := range []int{partition, attempt, generation, partition2, attempt2, generation2} {
			if n < 0 || n > 99_999 {
				return
			}
		}
		same := partition == partition2 && attempt == attempt2 && generation == generation2
		prefix := StepPrefix("app", "app-1-00000001", "work")
		for name, key := range map[string]func(partition, attempt, generation int) string{
			"log":        func(p, a, g int) string { return LogKey(prefix, p, a, g) },
			"checkpoint": func(p, a, g int) string { return CheckpointKey(prefix, p, a, g) },
			"output":     func(p, a, g int) string { return OutputKey(prefix, p, a, g, "out") },
		} {
			one, other := key(partition, attempt, generation), key(partition2, attempt2, generation2)
			if (one == other) != same || !strings.HasPrefix(one, prefix) {
				t.Errorf("%s: %q and %q", name, one, other)
			}
			older := attempt < attempt2 || attempt == attempt2 && generation < generation2
			if partition == partition2 && !same && (one < other) != older {
				t.Errorf("%s: %q and %q are not in the order of their age", name, one, other)
			}
		}
	})
}

func TestObjectNames(t *testing.T) {
	step := StepPrefix("app", "app-1", "work")
	key := SegmentKey(step, "work-12", 3, 4, 5)
	if n, ok := ParseSegmentKey(step, key); !ok || n != (SegmentName{"work-12", 3, 4, 5}) {
		t.Errorf("%s is read as %+v, %v", key, n, ok)
	}
	manifest := ManifestKey(step, "work-12", 3, 1<<60)
	if activity, first, ok := ParseManifestKey(step, manifest); !ok || activity != "work-12" || first != 3 {
		t.Errorf("%s is read as %s, %d, %v", manifest, activity, first, ok)
	}
	for _, bad := range []string{
		"", step, step + "segments/", step + "segments/work-1.1.2", step + "segments/work-1.1.2.x", step + "segments/work-1.-1.2.3",
		step + "segments/work-1.1.2.3.4", "other/" + key, manifest,
	} {
		if n, ok := ParseSegmentKey(step, bad); ok {
			t.Errorf("%q is read as the segment %+v", bad, n)
		}
	}
	for _, bad := range []string{"", step + "manifests/work-1.1", step + "manifests/work-1.x.1", step + "manifests/work-1.-1.1", key} {
		if _, _, ok := ParseManifestKey(step, bad); ok {
			t.Errorf("%q is read as a manifest", bad)
		}
	}
}
