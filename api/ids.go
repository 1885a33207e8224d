package api

import (
	"fmt"
	"strconv"
	"strings"
)

// MaxNameLength bounds names of apps and steps in bytes, so that every ID made
// of them fits into a Mesos task ID.
const MaxNameLength = 63

// InstanceID is the workflow ID of all runs of an instance: the app and the
// digest of its identity parameters (flow.Flow.IdentityDigest).
func InstanceID(app, identityDigest string) string {
	return app + "-" + short(identityDigest)
}

// short keeps 64 bits of a hex digest: enough to tell the instances of one app
// apart, and short enough for a Mesos task ID and for people.
func short(digest string) string { return digest[:min(len(digest), 16)] }

const runSuffix = 8

// RunID is the ID of a run that people see and type: the instance and the end of
// Temporal's first run ID, which continue-as-new keeps. The end, because the
// front of a version 7 UUID is a time.
func RunID(instanceID, firstRunID string) string {
	tail := firstRunID
	if len(tail) > runSuffix {
		tail = tail[len(tail)-runSuffix:]
	}
	return instanceID + "-" + tail
}

// SplitRunID gives back the instance and the suffix that the run's first
// Temporal run ID ends with.
func SplitRunID(run string) (instanceID, suffix string, err error) {
	i := strings.LastIndexByte(run, '-')
	if i <= 0 || len(run)-i-1 != runSuffix {
		return "", "", fmt.Errorf("%q is not a run ID: it looks like statements-9f86d081884c7d65-5e2f91aa", run)
	}
	return run[:i], run[i+1:], nil
}

// AppPrefix is where everything of an app's runs lies, with a slash at its end.
func AppPrefix(app string) string { return RunsPrefix + app + "/" }

// RunsPrefix is where everything of all runs lies.
const RunsPrefix = "runs/"

// RunPrefix is where everything of one run lies, with a slash at its end.
func RunPrefix(app, run string) string { return AppPrefix(app) + run + "/" }

// RunRecordKey is where a RunRecord lies. No step has a dot in its name.
func RunRecordKey(app, run string) string { return RunPrefix(app, run) + "run.json" }

// Keys of a step's objects, below StepPrefix.

// StepPrefix is where everything of one step lies, with a slash at its end.
func StepPrefix(app, run, step string) string { return RunPrefix(app, run) + step + "/" }

// ResultPrefix is common to the result objects of one activity.
func ResultPrefix(stepPrefix, activityID string) string {
	return stepPrefix + "results/" + activityID + "."
}

// ResultKey is the result object of one task.
func ResultKey(stepPrefix, activityID string, first, generation int) string {
	return fmt.Sprintf("%s%d.%d.json", ResultPrefix(stepPrefix, activityID), first, generation)
}

// SegmentPrefix is common to all segments of one activity.
func SegmentPrefix(stepPrefix, activityID string) string {
	return stepPrefix + "segments/" + activityID + "."
}

// SegmentKey is one segment of one task: see tasklet.Segments.
func SegmentKey(stepPrefix, activityID string, first, generation, number int) string {
	return fmt.Sprintf("%s%d.%d.%d", SegmentPrefix(stepPrefix, activityID), first, generation, number)
}

// SegmentName is what the key of a segment says.
type SegmentName struct {
	Activity                  string
	First, Generation, Number int
}

// ParseSegmentKey reads what SegmentKey wrote.
func ParseSegmentKey(stepPrefix, key string) (n SegmentName, ok bool) {
	rest, ok := strings.CutPrefix(key, stepPrefix+"segments/")
	words := strings.Split(rest, ".")
	if !ok || len(words) != 4 {
		return n, false
	}
	n.Activity = words[0]
	for i, into := range []*int{&n.First, &n.Generation, &n.Number} {
		number, err := strconv.Atoi(words[i+1])
		if err != nil || number < 0 {
			return n, false
		}
		*into = number
	}
	return n, true
}

// ManifestPrefix is common to the manifests of a step.
func ManifestPrefix(stepPrefix string) string { return stepPrefix + "manifests/" }

// ManifestKey holds the results of the partitions of one activity, in order: lines
// of tasklet.Result. It names the first of them. Each that is written has a unique
// one, so that a former leader that is late replaces nothing.
func ManifestKey(stepPrefix, activityID string, first int, unique int64) string {
	return fmt.Sprintf("%s%s.%d.%x", ManifestPrefix(stepPrefix), activityID, first, unique)
}

// ParseManifestKey reads from what ManifestKey wrote what it is about.
func ParseManifestKey(stepPrefix, key string) (activityID string, first int, ok bool) {
	rest, ok := strings.CutPrefix(key, ManifestPrefix(stepPrefix))
	words := strings.Split(rest, ".")
	if !ok || len(words) != 3 {
		return "", 0, false
	}
	first, err := strconv.Atoi(words[1])
	return words[0], first, err == nil && first >= 0
}

// ItemsKey holds the items of a step's partitions, in order: lines of JSON values.
// Each attempt to write them down has its own, so that a late one changes nothing.
func ItemsKey(stepPrefix string, attempt int) string {
	return fmt.Sprintf("%sitems/%d", stepPrefix, attempt)
}

// GatherKey is one file of what a step gets that reduces another one. Each attempt to
// write it has its own, as with ItemsKey.
func GatherKey(stepPrefix string, attempt int, name string) string {
	return fmt.Sprintf("%sgather/%d/%s", stepPrefix, attempt, name)
}

// DataPrefix is where an owner's own objects lie, which flows of the owner may go
// over: no run writes there, and nothing is ever swept there.
func DataPrefix(owner string) string { return "data/" + owner + "/" }

// try names one placement of one attempt so that keys sort by age.
func try(attempt, generation int) string { return fmt.Sprintf("%05d.%05d", attempt, generation) }

// LogPrefix is common to all logs of one partition, oldest first.
func LogPrefix(stepPrefix string, partition int) string {
	return fmt.Sprintf("%slogs/%d/", stepPrefix, partition)
}

// LogKey is the log of one placement of one attempt.
func LogKey(stepPrefix string, partition, attempt, generation int) string {
	return LogPrefix(stepPrefix, partition) + try(attempt, generation) + ".log"
}

// CheckpointsPrefix is common to all checkpoints of a step.
func CheckpointsPrefix(stepPrefix string) string { return stepPrefix + "checkpoints/" }

// CheckpointPrefix is common to all checkpoints of one partition, oldest first.
func CheckpointPrefix(stepPrefix string, partition int) string {
	return fmt.Sprintf("%s%d/", CheckpointsPrefix(stepPrefix), partition)
}

// CheckpointKey is where one placement of one attempt saves its checkpoint.
// Each has its own, so that a task believed lost cannot overwrite its successor's.
func CheckpointKey(stepPrefix string, partition, attempt, generation int) string {
	return CheckpointPrefix(stepPrefix, partition) + try(attempt, generation)
}

// OutputKey is one output of one placement of one attempt.
func OutputKey(stepPrefix string, partition, attempt, generation int, name string) string {
	return fmt.Sprintf("%soutputs/%d/%s/%s", stepPrefix, partition, try(attempt, generation), name)
}

// BundleKey is an app's files, by content.
func BundleKey(sha256 string) string { return "bundles/" + sha256 }

// FileKey is a file given as a parameter, by content.
func FileKey(sha256 string) string { return "files/" + sha256 }

// InstanceKey is the last state of an instance.
func InstanceKey(app, identityDigest string) string {
	return "instances/" + app + "/" + short(identityDigest) + ".json"
}
