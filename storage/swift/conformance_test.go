package swift_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/storage/storagetest"
	_ "github.com/baas-batch/baas/storage/swift"
	"github.com/baas-batch/baas/tests/servers"
)

func TestConformance(t *testing.T) {
	s := servers.StartSwift(t)
	s.Credentials(t)
	var containers atomic.Int64
	storagetest.Run(t, storagetest.Harness{
		New: func(t *testing.T) storage.Store {
			return storagetest.Open(t, s.Container(t, fmt.Sprintf("container-%d", containers.Add(1))))
		},
		ListLag:       10 * time.Second,
		PartsStayOpen: true,
	})
}
