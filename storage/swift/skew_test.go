package swift_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/storage/storagetest"
	"github.com/baas-batch/baas/tests/servers"
)

func TestClockSkew(t *testing.T) {
	for name, ahead := range map[string]time.Duration{"ahead": 20 * time.Minute, "behind": -20 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			s := servers.StartSkewedSwift(t, ahead)
			s.Credentials(t)
			var containers atomic.Int64
			storagetest.RunSkew(t, ahead, func(t *testing.T) storage.Store {
				return storagetest.Open(t, s.Container(t, fmt.Sprint("container-", containers.Add(1))))
			})
		})
	}
}
