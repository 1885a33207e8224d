package retention

import (
	"context"
	"errors"
	"fmt"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/storage"
)

// ErrForeign is the error for a store whose runs are those of another Temporal
// namespace: none of them is open in the one that was asked.
var ErrForeign = errors.New("the runs in this store belong to another Temporal")

const maxHome = 64 << 10 // bytes

// Claim makes the store one of a Temporal namespace, if it is nobody's yet. It returns
// ErrForeign where it is another one's. It does not rest on atomic creation, which
// Swift lacks: of two that claim in the same moment the last to write wins, and the other
// is told so, unless it has read its own in between; its next sweep is refused then.
func Claim(ctx context.Context, s storage.Store, home api.StoreHome) error {
	owner, err := homeOf(ctx, s)
	if errors.Is(err, storage.ErrNotExist) {
		if _, err = storage.PutJSON(ctx, s, api.StoreHomeKey, home); err != nil {
			return err
		}
		owner, err = homeOf(ctx, s)
	}
	if err != nil {
		return err
	}
	return same(owner, home)
}

func homeOf(ctx context.Context, s storage.Store) (home api.StoreHome, err error) {
	err = storage.GetJSON(ctx, s, api.StoreHomeKey, maxHome, &home)
	return home, err
}

func same(owner, home api.StoreHome) error {
	if owner.NamespaceID == home.NamespaceID {
		return nil
	}
	return fmt.Errorf("%w: it was used first with namespace %q (ID %s), and this is namespace %q (ID %s), which knows nothing of what is open there. "+
		"Name the right Temporal; if the other is gone for good, remove %s from the store",
		ErrForeign, owner.Namespace, owner.NamespaceID, home.Namespace, home.NamespaceID, api.StoreHomeKey)
}

// checkHome refuses a store of another Temporal, once.
func (s *Sweeper) checkHome(ctx context.Context) error {
	if s.atHome {
		return nil
	}
	home, err := s.Runs.Home(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoAnswer, err)
	}
	if s.DryRun {
		var owner api.StoreHome
		if owner, err = homeOf(ctx, s.Store); err == nil {
			err = same(owner, home)
		} else if errors.Is(err, storage.ErrNotExist) {
			err = nil
		}
	} else {
		err = Claim(ctx, s.Store, home)
	}
	s.atHome = err == nil
	return err
}
