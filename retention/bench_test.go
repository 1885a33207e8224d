package retention

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/storage/file"
)

// BenchmarkSweep sweeps runs out of a directory: objects a second, and the most memory
// that was in use after a page.
func BenchmarkSweep(b *testing.B) {
	const runs, objects = 20, 2000
	for b.Loop() {
		b.StopTimer()
		s, err := file.Open(b.TempDir(), file.Options{NoSync: true})
		if err != nil {
			b.Fatal(err)
		}
		for n := range runs {
			r := record(app, n, n, api.StatusSucceeded, day)
			for o := range objects {
				key := fmt.Sprintf("%swork/outputs/%d", api.RunPrefix(app, r.Run), o)
				if _, err := storage.PutBytes(b.Context(), s, key, []byte("x")); err != nil {
					b.Fatal(err)
				}
			}
			if err := put(b.Context(), s, app, r); err != nil {
				b.Fatal(err)
			}
		}
		var most, now runtime.MemStats
		sweeper := &Sweeper{Store: s, Runs: newOpenRuns(), Now: at(midnight), Rules: flow.Retention{Outputs: 1}}
		sweeper.Progress = func(Tally) {
			runtime.ReadMemStats(&now)
			most.HeapInuse = max(most.HeapInuse, now.HeapInuse)
		}
		b.StartTimer()
		began := time.Now()
		report, err := sweeper.App(b.Context(), app)
		took := time.Since(began)
		b.StopTimer()
		if err != nil || report.Objects != runs*objects {
			b.Fatalf("%+v, %v", report, err)
		}
		b.ReportMetric(float64(report.Objects)/took.Seconds(), "objects/s")
		b.ReportMetric(float64(most.HeapInuse)/1e6, "MB")
		s.Close()
		b.StartTimer()
	}
}
