package retention

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/tests/servers"

	_ "github.com/baas-batch/baas/storage/s3"
)

func at(now time.Time) func() time.Time { return func() time.Time { return now } }

// shelf is a store with runs: 1 and 2 have succeeded, 3 has failed, 4 is open, 5 was
// terminated, and is what runs of other apps and other things are.
func shelf(t *testing.T, s storage.Store) (*openRuns, []string) {
	t.Helper()
	for n, status := range []api.Status{api.StatusSucceeded, api.StatusSucceeded, api.StatusFailed} {
		ended(t, s, app, record(app, n, n+1, status, time.Duration(9-n)*day))
	}
	live := Live{Run: runName(app, 3, 4), Instance: instance(app, 3)}
	write(t, s, objects(app, live.Run)...)
	write(t, s, objects(app, runName(app, 4, 5))...)
	others := []string{
		"files/" + strings.Repeat("0", 64), "bundles/" + strings.Repeat("1", 64), "instances/app/0000000000000001.json",
		"runs/app/other/what/is/this", "runs/app-2/app-2-0000000000000001-00000001/work/logs/0/x.log",
	}
	write(t, s, others...)
	if err := Claim(t.Context(), s, here); err != nil {
		t.Fatal(err)
	}
	return newOpenRuns(live), append(others, api.StoreHomeKey)
}

func TestSweep(t *testing.T) {
	stores := map[string]func(t *testing.T) storage.Store{
		"file": func(t *testing.T) storage.Store { return newStore(t) },
		"s3": func(t *testing.T) storage.Store {
			server := servers.StartS3(t, nil)
			server.Credentials(t)
			s, err := storage.Open(t.Context(), server.Bucket(t, "sweeps"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
			return s
		},
	}
	for name, open := range stores {
		t.Run(name, func(t *testing.T) { testSweep(t, open(t)) })
	}
}

func testSweep(t *testing.T, s storage.Store) {
	runs, others := shelf(t, s)
	before := keys(t, s, "")
	var items []Item
	sweeper := &Sweeper{
		Store: s, Runs: runs, Now: at(midnight), Rules: flow.Retention{Runs: 1, Failed: flow.Duration(5 * day), Logs: flow.Duration(30 * day)},
		DryRun: true, Each: func(i Item) { items = append(items, i) },
	}
	dry, err := sweeper.App(t.Context(), app)
	if err != nil || dry.Swept != 2 || dry.Kept != 4 || dry.Objects != 6 || dry.Bytes != 6*int64(len("content")) || len(items) != 2 {
		t.Fatalf("dry run: %+v, %v, %v", dry, items, err)
	}
	if after := keys(t, s, ""); !slices.Equal(before, after) {
		t.Fatalf("the dry run has changed something: %v, before %v", after, before)
	}
	sweeper.DryRun = false
	done, err := sweeper.App(t.Context(), app)
	if err != nil || done != dry {
		t.Fatalf("%+v, %v, the dry run said %+v", done, err, dry)
	}
	var want []string
	for _, n := range []int{1, 3} { // the older success, and the failure
		run := runName(app, n-1, n)
		want = append(want, api.RunRecordKey(app, run), objects(app, run)[1])
	}
	kept := runName(app, 1, 2)
	want = append(append(want, api.RunRecordKey(app, kept)), objects(app, kept)...)
	want = append(want, objects(app, runName(app, 3, 4))...)
	found := runName(app, 4, 5)
	want = append(append(want, api.RunRecordKey(app, found)), objects(app, found)...)
	want = append(want, others...)
	slices.Sort(want)
	if after := keys(t, s, ""); !slices.Equal(after, want) {
		t.Fatalf("left are\n%s\nwant\n%s", strings.Join(after, "\n"), strings.Join(want, "\n"))
	}

	// The logs go in their turn, and what was found without a record.
	sweeper.Now, items = at(midnight.Add(40*day)), nil
	if last, err := sweeper.App(t.Context(), app); err != nil || last.Swept != 3 || last.Kept != 1 || items[0].What != WhatLogs {
		t.Errorf("%+v, %v, %v", last, items, err)
	}
	for _, n := range []int{1, 3, 5} {
		if left := keys(t, s, api.RunPrefix(app, runName(app, n-1, n))); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
	if !whole(t, s, app, kept) || !whole(t, s, app, runName(app, 3, 4)) {
		t.Error("what must stay has gone")
	}
}

// A sweep that is cut at any of its writes leaves a store that the next one can end with.
func TestSweepCutAnywhere(t *testing.T) {
	for cutAt := 1; ; cutAt++ {
		s := newStore(t)
		runs, _ := shelf(t, s)
		sweeper := &Sweeper{Store: s, Runs: runs, Now: at(midnight), Rules: flow.Retention{Runs: 1, Failed: flow.Duration(5 * day)}}
		ctx, cancel := context.WithCancel(t.Context())
		writes := make(chan int, 1)
		writes <- 0
		s.hook = func(string, string) error {
			n := <-writes + 1
			writes <- n
			if n == cutAt {
				cancel()
			}
			return ctx.Err()
		}
		_, err := sweeper.App(ctx, app)
		cancel()
		if err == nil {
			if cutAt < 12 {
				t.Errorf("a sweep of two runs has %d writes", cutAt-1)
			}
			return
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		for _, n := range []int{1, 3} {
			run := runName(app, n-1, n)
			if left := keys(t, s, api.RunPrefix(app, run)); len(left) > 0 && !slices.Contains(left, api.RunRecordKey(app, run)) {
				t.Fatalf("cut at %d: run %s is not known any more, and %v is left", cutAt, run, left)
			}
		}
		s.hook = nil
		if _, err := sweeper.App(t.Context(), app); err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{1, 3} {
			if left := keys(t, s, api.RunPrefix(app, runName(app, n-1, n))); len(left) > 0 {
				t.Fatalf("cut at %d: the next sweep leaves %v", cutAt, left)
			}
		}
		if !whole(t, s, app, runName(app, 1, 2)) || !whole(t, s, app, runName(app, 3, 4)) || !whole(t, s, app, runName(app, 4, 5)) {
			t.Fatalf("cut at %d: what must stay has gone", cutAt)
		}
	}
}

func TestWithoutTemporalNothingGoes(t *testing.T) {
	s := newStore(t)
	runs, _ := shelf(t, s)
	runs.err = errors.New("Temporal does not answer")
	before := keys(t, s, "")
	sweeper := &Sweeper{Store: s, Runs: runs, Now: at(midnight), Rules: flow.Retention{Runs: 1}}
	if _, err := sweeper.App(t.Context(), app); !errors.Is(err, runs.err) {
		t.Errorf("App: %v", err)
	}
	if _, err := s.CreateUpload(t.Context(), objects(app, runName(app, 0, 1))[0]); err != nil {
		t.Fatal(err)
	}
	sweeper.Now = at(time.Now().Add(2 * day))
	if n, err := sweeper.Uploads(t.Context(), ""); !errors.Is(err, runs.err) || n != 0 {
		t.Errorf("Uploads: %d, %v", n, err)
	}
	if after := keys(t, s, ""); !slices.Equal(before, after) {
		t.Errorf("it has changed something: %v", after)
	}
}

// A run of the instance that starts when the sweep has decided already stops it. The
// mark stays, and keeps others from using what may be gone; the next sweep keeps the
// run too, while the other one is open.
func TestARunThatStartsMeanwhileIsSeen(t *testing.T) {
	s := newStore(t)
	failed := record(app, 1, 1, api.StatusFailed, 9*day)
	ended(t, s, app, failed)
	runs := newOpenRuns()
	s.hook = func(_, key string) error {
		if len(runs.live) == 0 && key == api.RunRecordKey(app, failed.Run) {
			runs.begin(Live{Run: runName(app, 1, 2), Instance: failed.Instance}, true)
		}
		return nil
	}
	sweeper := &Sweeper{Store: s, Runs: runs, Now: at(midnight), Rules: flow.Retention{Failed: flow.Duration(day)}}
	for range 2 {
		report, err := sweeper.App(t.Context(), app)
		if err != nil || report.Swept != 0 || report.Kept != 1 || !whole(t, s, app, failed.Run) {
			t.Errorf("%+v, %v", report, err)
		}
	}
	if r, err := sweeper.load(t.Context(), app, failed.Run); err != nil || r.Sweep != api.SweepBegun {
		t.Errorf("its record: %+v, %v", r, err)
	}
	delete(runs.live, failed.Instance)
	if report, err := sweeper.App(t.Context(), app); err != nil || report.Swept != 1 || len(keys(t, s, api.AppPrefix(app))) > 0 {
		t.Errorf("after its end: %+v, %v", report, err)
	}
}

// A run that is open before the mark leaves none.
func TestARunThatIsOpenBeforeLeavesNoMark(t *testing.T) {
	s := newStore(t)
	first, failed := record(app, 0, 1, api.StatusFailed, 9*day), record(app, 1, 2, api.StatusFailed, 9*day)
	ended(t, s, app, first)
	ended(t, s, app, failed)
	runs := newOpenRuns()
	s.hook = func(what, key string) error {
		if what == "delete" && key == api.RunRecordKey(app, first.Run) {
			runs.begin(Live{Run: runName(app, 1, 3), Instance: failed.Instance}, true)
		}
		return nil
	}
	sweeper := &Sweeper{Store: s, Runs: runs, Now: at(midnight), Rules: flow.Retention{Failed: flow.Duration(day)}}
	if report, err := sweeper.App(t.Context(), app); err != nil || report.Swept != 1 || report.Kept != 1 {
		t.Errorf("%+v, %v", report, err)
	}
	if r, err := sweeper.load(t.Context(), app, failed.Run); err != nil || r.Sweep != api.SweepNone || !whole(t, s, app, failed.Run) {
		t.Errorf("its record: %+v, %v", r, err)
	}
}

// Of two sweeps at once, one removes what the other one decides to keep: nobody must
// take what is left for whole.
func TestTwoSweepsAtOnce(t *testing.T) {
	s := newStore(t)
	failed := record(app, 1, 1, api.StatusFailed, 9*day)
	ended(t, s, app, failed)
	runs, busy := newOpenRuns(), false
	sweeper := func() *Sweeper {
		return &Sweeper{Store: s, Runs: runs, Now: at(midnight), Rules: flow.Retention{Failed: flow.Duration(day)}}
	}
	s.hook = func(what, key string) error {
		switch {
		case busy && what == "delete" && key == api.RunRecordKey(app, failed.Run): // the other one is killed before the last of it
			return errCut
		case !busy && key == api.RunRecordKey(app, failed.Run):
			busy = true
			if _, err := sweeper().App(t.Context(), app); !errors.Is(err, errCut) {
				t.Errorf("the other sweep: %v", err)
			}
			runs.begin(Live{Run: runName(app, 1, 2), Instance: failed.Instance}, false)
		}
		return nil
	}
	if report, err := sweeper().App(t.Context(), app); err != nil || report.Kept != 1 || report.Swept != 0 {
		t.Errorf("%+v, %v", report, err)
	}
	if whole(t, s, app, failed.Run) {
		t.Error("the other sweep has removed nothing")
	}
	if r, err := sweeper().load(t.Context(), app, failed.Run); err != nil || r.Sweep != api.SweepBegun {
		t.Errorf("its record: %+v, %v", r, err)
	}
	if err := CheckGiven(t.Context(), s, app, []byte(`"`+objects(app, failed.Run)[2]+`"`)); !errors.Is(err, ErrSwept) {
		t.Errorf("a run that is given an object of it: %v", err)
	}
}

func TestAStoreOfAnotherTemporal(t *testing.T) {
	s := newStore(t)
	runs, _ := shelf(t, s)
	if _, err := storage.PutJSON(t.Context(), s, api.StoreHomeKey, api.StoreHome{Namespace: "prod", NamespaceID: "there"}); err != nil {
		t.Fatal(err)
	}
	before := keys(t, s, "")
	for _, dry := range []bool{true, false} {
		sweeper := &Sweeper{Store: s, Runs: runs, Now: at(midnight), Rules: flow.Retention{Runs: 1}, DryRun: dry}
		if _, err := sweeper.App(t.Context(), app); !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), `"prod" (ID there)`) {
			t.Errorf("App: %v", err)
		}
		if _, err := sweeper.Uploads(t.Context(), ""); !errors.Is(err, ErrForeign) {
			t.Errorf("Uploads: %v", err)
		}
	}
	if after := keys(t, s, ""); !slices.Equal(before, after) {
		t.Errorf("it has changed something: %v", after)
	}
	if err := Claim(t.Context(), s, api.StoreHome{NamespaceID: "there"}); err != nil {
		t.Errorf("its own Temporal: %v", err)
	}
}

// A store is claimed by the first that sweeps it, and not by a dry run.
func TestFirstSweepClaimsTheStore(t *testing.T) {
	s := newStore(t)
	for _, dry := range []bool{true, false} {
		if _, err := (&Sweeper{Store: s, Runs: newOpenRuns(), DryRun: dry}).App(t.Context(), app); err != nil {
			t.Fatal(err)
		}
		if home, err := homeOf(t.Context(), s); dry != errors.Is(err, storage.ErrNotExist) || !dry && home != here {
			t.Errorf("dry run %v: %+v, %v", dry, home, err)
		}
	}
}

func TestCheckGiven(t *testing.T) {
	s := newStore(t)
	for n, stage := range []api.SweepStage{api.SweepNone, api.SweepBegun, api.SweepLogs} {
		r := record(app, n, n, api.StatusSucceeded, day)
		r.Sweep = stage
		if err := put(t.Context(), s, app, r); err != nil {
			t.Fatal(err)
		}
		given := fmt.Sprintf(`{"a": [{"key": %q}], "b": {"key": %q}}`, objects(app, r.Run)[2], objects(app, runName(app, 9, 9))[2])
		err := CheckGiven(t.Context(), s, app, []byte(given))
		if swept := errors.Is(err, ErrSwept); swept != (stage != api.SweepNone) || swept && !strings.Contains(err.Error(), r.Run) {
			t.Errorf("sweep %q: %v", stage, err)
		}
	}
}

func TestABrokenRecordStopsTheSweepOfItsApp(t *testing.T) {
	for _, content := range []string{"{", `{"run": "another"}`, ""} {
		s := newStore(t)
		runs, _ := shelf(t, s)
		key := api.RunRecordKey(app, runName(app, 0, 1))
		if _, err := storage.PutBytes(t.Context(), s, key, []byte(content)); err != nil {
			t.Fatal(err)
		}
		_, err := (&Sweeper{Store: s, Runs: runs, Rules: flow.Retention{Runs: 1}}).App(t.Context(), app)
		if !errors.Is(err, ErrUnreadable) || !strings.Contains(err.Error(), key) {
			t.Errorf("%q: %v", content, err)
		}
	}
}

func TestUploads(t *testing.T) {
	s := newStore(t)
	open := Live{Run: runName(app, 1, 1), Instance: instance(app, 1)}
	stay := []string{objects(app, open.Run)[2], "runs/app/strange/x/y", "checks/x"}
	gone := []string{objects(app, runName(app, 1, 2))[2], objects(app, runName(app, 2, 3))[2], "files/x", "bundles/x"}
	for _, key := range slices.Concat(stay, gone) {
		if _, err := s.CreateUpload(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	sweeper := &Sweeper{Store: s, Runs: newOpenRuns(open), Now: at(time.Now().Add(23 * time.Hour)), DryRun: true}
	expect := func(what string, n int, app string) {
		t.Helper()
		if got, err := sweeper.Uploads(t.Context(), app); err != nil || got != n {
			t.Errorf("%s: %d, %v, want %d", what, got, err, n)
		}
	}
	expect("after 23 hours", 0, "")
	sweeper.Now = at(time.Now().Add(25 * time.Hour))
	expect("dry", 4, "")
	expect("dry, of one app", 2, app)
	sweeper.DryRun = false
	expect("after 25 hours", 4, "")
	expect("again", 0, "")
	left, err := s.ListUploads(t.Context(), "")
	if err != nil || len(left) != len(stay) {
		t.Errorf("left: %v, %v", left, err)
	}
}

// Runs with more objects than a page are leapt over, and apps are found in order.
func TestListing(t *testing.T) {
	s := &memory{content: map[string][]byte{}}
	apps := []string{"a", "a-b", "a0", "b"}
	for _, app := range apps {
		for n := range 3 {
			run := runName(app, n, n)
			for o := range 900 {
				write(t, s, fmt.Sprintf("%swork/outputs/%04d", api.RunPrefix(app, run), o))
			}
			if err := put(t.Context(), s, app, record(app, n, n, api.StatusSucceeded, day)); err != nil {
				t.Fatal(err)
			}
		}
	}
	var found []string
	for app := ""; ; {
		var err error
		if app, err = NextApp(t.Context(), s, app); err != nil {
			t.Fatal(err)
		}
		if app == "" {
			break
		}
		found = append(found, app)
		runs, err := (&Sweeper{Store: s, Runs: newOpenRuns()}).survey(t.Context(), app)
		if err != nil || len(runs) != 3 {
			t.Errorf("app %s: %+v, %v", app, runs, err)
		}
	}
	slices.Sort(found)
	if !slices.Equal(found, apps) {
		t.Errorf("apps %v, want %v", found, apps)
	}
}

func TestSaveNotesWhatARunRefersTo(t *testing.T) {
	s := newStore(t)
	self, param, output := runName(app, 1, 1), runName(app, 2, 2), runName(app, 3, 3)
	ref := func(run string) string { return fmt.Sprintf(`{"file": {"key": %q, "size": 3}}`, objects(app, run)[2]) }
	state := api.RunState{
		Run: self, Instance: instance(app, 1), App: app, Status: api.StatusFailed,
		Params: map[string]json.RawMessage{"in": json.RawMessage(ref(param)), "other": json.RawMessage(`"runs/other/other-0000000000000001-00000001/x"`)},
		Steps: []api.StepState{{Outputs: map[string]json.RawMessage{
			"list": json.RawMessage("[1, " + ref(output) + ", " + ref(self) + "]"), "text": json.RawMessage(`"runs/app/none"`)}}},
	}
	if err := Save(t.Context(), s, state); err != nil {
		t.Fatal(err)
	}
	r, err := (&Sweeper{Store: s}).load(t.Context(), app, self)
	if err != nil || !slices.Equal(r.Needs, []string{param, output}) || r.Status != api.StatusFailed {
		t.Errorf("%+v, %v", r, err)
	}
}

// What a rule for logs keeps: also what holds the logs of partitions, and tells where
// they are.
func TestIsLog(t *testing.T) {
	run := runName(app, 0, 1)
	step := api.StepPrefix(app, run, "work")
	for key, want := range map[string]bool{
		api.LogKey(step, 0, 1, 1):                 true,
		api.SegmentKey(step, "work-1", 0, 1, 0):   true,
		api.ManifestKey(step, "work-1", 0, 1):     true,
		api.OutputKey(step, 0, 1, 1, "logs"):      false,
		api.ItemsKey(step, 1):                     false,
		api.CheckpointKey(step, 0, 1, 1):          false,
		api.RunPrefix(app, run) + "logs/anything": false,
	} {
		if have := isLog(strings.TrimPrefix(key, api.RunPrefix(app, run))); have != want {
			t.Errorf("%s: %v, want %v", key, have, want)
		}
	}
}
