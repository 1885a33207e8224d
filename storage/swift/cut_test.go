package swift_test

import (
	"testing"

	"github.com/baas-batch/baas/storage/storagetest"
	"github.com/baas-batch/baas/tests/harness/proxy"
	"github.com/baas-batch/baas/tests/servers"
)

// Connections that are cut cost time, not data.
func TestCuts(t *testing.T) {
	s := servers.StartSwift(t)
	s.Credentials(t)
	link, err := proxy.New(s.Address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(link.Stop)
	// The account's URL is that of the address at which it was asked for.
	t.Setenv("ST_AUTH", "http://"+link.Addr()+"/auth/v1.0")
	store := storagetest.Open(t, s.Container(t, "container"))
	storagetest.RunCuts(t, store, link, func() int { return int(link.Stats().Cut) })
}
