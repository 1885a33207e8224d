package fault

import (
	"testing"

	"github.com/baas-batch/baas/tests/harness"
)

func TestMain(m *testing.M) { harness.Main(m, crashRoles()) }

// Without any fault both flows pass, so what fails elsewhere is a fault's doing.
func TestNoFault(t *testing.T) {
	t.Parallel()
	w := New(t, Config{})
	good, bad := w.Start(Standard()), w.Start(Doomed())
	good.Open()
	bad.Open()
	w.Verify(good)
	w.Verify(bad)
}
