package s3_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/storage/storagetest"
	"github.com/baas-batch/baas/tests/servers"
)

// Swift's S3 API, as its clock can be set: it refuses a difference of more than five
// minutes by default, S3 itself of 15.
func TestClockSkew(t *testing.T) {
	for name, ahead := range map[string]time.Duration{"ahead": 20 * time.Minute, "behind": -20 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			swift := servers.StartSkewedSwift(t, ahead)
			s := swift.S3()
			s.Credentials(t)
			var buckets atomic.Int64
			storagetest.RunSkew(t, ahead, func(t *testing.T) storage.Store {
				name := fmt.Sprint("bucket-", buckets.Add(1))
				swift.Container(t, name)
				return storagetest.Open(t, s.URL(name)+"&conditions=false&max_parts=1000")
			})
		})
	}
}
