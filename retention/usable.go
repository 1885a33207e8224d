package retention

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/storage"
)

// ErrSwept is the error for objects of a run whose sweep has begun.
var ErrSwept = errors.New("is past its retention, and its objects are swept")

// CheckGiven returns ErrSwept if JSON that an open run of an app was given names
// objects of a run whose sweep has begun. Called by the run itself, it finds the mark
// of each sweep that did not see it in Temporal's listing, but for one that marked
// later and whose listing lagged behind the start of the run.
func CheckGiven(ctx context.Context, s storage.Store, app string, given []byte) error {
	runs := map[string]bool{}
	namedRuns(app, given, runs)
	for _, run := range slices.Sorted(maps.Keys(runs)) {
		r, err := (&Sweeper{Store: s}).load(ctx, app, run)
		switch {
		case errors.Is(err, storage.ErrNotExist), errors.Is(err, ErrUnreadable):
			// It is open, or nobody sweeps it; what is gone is missed when it is read.
		case err != nil:
			return fmt.Errorf("record of run %s: %w", run, err)
		case r.Sweep != api.SweepNone:
			return fmt.Errorf("run %s %w", run, ErrSwept)
		}
	}
	return nil
}
