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

// way changes how the steps of a flow are run.
type way func(Flow) Flow

// ways runs a test with a task for each partition, and with ranges.
func ways(t *testing.T, test func(*testing.T, way)) {
	t.Parallel()
	for name, as := range map[string]way{"alone": func(f Flow) Flow { return f }, "ranges": Flow.InRanges} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, as)
		})
	}
}

// Without any fault all flows pass, so what fails elsewhere is a fault's doing.
func TestNoFault(t *testing.T) {
	t.Parallel()
	w := New(t, Config{})
	var runs []*Run
	for _, f := range []Flow{Standard(), Doomed(), Standard().InRanges(), Doomed().InRanges()} {
		r := w.Start(f)
		r.Open()
		runs = append(runs, r)
	}
	for _, r := range runs {
		w.Verify(r)
	}
}
