package s3_test

import (
	"strings"
	"testing"

	"github.com/baas-batch/baas/storage/storagetest"
	"github.com/baas-batch/baas/tests/harness/proxy"
	"github.com/baas-batch/baas/tests/servers"
)

// Connections that are cut cost time, not data.
func TestCuts(t *testing.T) {
	s := servers.StartS3(t, nil)
	s.Credentials(t)
	link, err := proxy.New(strings.TrimPrefix(s.Endpoint, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(link.Stop)
	store := storagetest.Open(t, with(t, s.Bucket(t, "bucket"), "endpoint", "http://"+link.Addr()))
	storagetest.RunCuts(t, store, link, func() int { return int(link.Stats().Cut) })
}
