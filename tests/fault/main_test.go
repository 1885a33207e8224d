package fault

import (
	"flag"
	"testing"

	"github.com/baas-batch/baas/tests/harness"
)

// side is how many worlds live side by side, unless -parallel tells: they wait for
// leases and time limits more than they compute.
const side = "4"

func TestMain(m *testing.M) {
	flag.Parse()
	told := false
	flag.Visit(func(f *flag.Flag) { told = told || f.Name == "test.parallel" })
	if !told {
		if err := flag.Set("test.parallel", side); err != nil {
			panic(err)
		}
	}
	harness.Main(m, crashRoles())
}

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
