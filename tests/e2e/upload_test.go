package e2e

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mesosapi "github.com/mesos/mesos-go/api/v1/lib"
	"go.temporal.io/sdk/client"

	"github.com/baas-batch/baas/api"
	embeddedmesos "github.com/baas-batch/baas/embedded/mesos"
	"github.com/baas-batch/baas/embedded/mesos/agent"
	"github.com/baas-batch/baas/platform"
	"github.com/baas-batch/baas/retention"
	"github.com/baas-batch/baas/storage"
	_ "github.com/baas-batch/baas/storage/s3"
	_ "github.com/baas-batch/baas/storage/swift"
	"github.com/baas-batch/baas/tasklet"
	"github.com/baas-batch/baas/tests/servers"
	"github.com/baas-batch/baas/worker"
)

// large is a flow whose first step leaves a file that goes up in parts, of which the
// second tells the size and the last words.
const large = `
name: large
params: {ledger: {type: string}, size: {type: int}}
steps:
  make:
    resources: {cpus: 0.5, mem: 64MB, disk: 6GB}
    with: {ledger: '${{ params.ledger }}', size: '${{ params.size }}'}
    run: |
      echo "start 1 $$ $PPID $BAAS_ATTEMPT" >>"$BAAS_INPUT_LEDGER"
      head -c "$BAAS_INPUT_SIZE" /dev/zero >"$BAAS_OUTPUTS/big"
      echo end >>"$BAAS_OUTPUTS/big"
    outputs: {big: file}
  look:
    resources: {cpus: 0.5, mem: 64MB, disk: 6GB}
    with: {big: '${{ steps.make.outputs.big }}'}
    run: |
      wc -c <"$BAAS_INPUT_BIG" | tr -d '\n' >"$BAAS_OUTPUTS/size"
      tail -c 4 "$BAAS_INPUT_BIG" | tr -d '\n' >"$BAAS_OUTPUTS/last"
    outputs: {size: int, last: string}
`

const largeSize = 2 << 30 // bytes

// An executor is killed with -9 in the middle of a large upload: nobody ever sees a
// part of the object, the step is done again, and the sweep removes what is left of
// the first upload.
func TestKillInUpload(t *testing.T) {
	s3, swift := servers.StartS3(t, nil), servers.StartSwift(t)
	s3.Credentials(t)
	swift.Credentials(t)
	for _, store := range []struct{ name, url, dir string }{
		{name: "files"},
		{"S3", s3.Bucket(t, "bucket"), s3.Dir},
		{"Swift", swift.Container(t, "large"), swift.Dir},
	} {
		t.Run(store.name, func(t *testing.T) {
			started := start(t, func(c *platform.Config) {
				c.StorageURL = store.url
				c.Worker = func(w *worker.Config) { w.Mesos.ExecutorEnv = map[string]string{tasklet.EnvCacheSize: "0"} } // for the disk's sake
				c.Mesos.Agents = []embeddedmesos.AgentConfig{{Resources: []mesosapi.Resource{
					agent.Scalar("cpus", 2), agent.Scalar("mem", 2048), agent.Scalar("disk", 32<<10)}}}
			})
			if store.dir == "" {
				store.dir = started.StoreDir()
			}
			killInUpload(t, of(started), store.dir)
		})
	}
}

func killInUpload(t *testing.T, p target, storeDir string) {
	l, before := newLedger(t), size(t, storeDir)
	r := run(t, p, map[string]string{"flow.yaml": large}, map[string]string{"ledger": l.path, "size": fmt.Sprint(largeSize)})
	step := api.StepPrefix("large", api.RunID(r.GetID(), r.GetRunID()), "make")
	looks := watchOutput(t, p.store, step)

	eventually(t, patience, "the upload is not under way", func() bool {
		return len(uploads(t, p.store, step)) == 1 && size(t, storeDir)-before > largeSize/8
	})
	cut := uploads(t, p.store, step)
	living(t, l.of(t, "start")[0][2]).kill(t)
	succeededWhole(t, p, r)

	if n := looks(); n < 10 {
		t.Errorf("the object was looked for %d times only", n)
	}
	equal(t, len(l.of(t, "start")), 2)
	left := uploads(t, p.store, step)
	if len(left) != 1 || left[0].ID != cut[0].ID {
		t.Fatalf("uploads left are %v, want %v", left, cut)
	}
	full := size(t, storeDir)
	sweep := retention.Sweeper{
		Store: p.store, Runs: &retention.Temporal{Service: p.client.WorkflowService(), Namespace: client.DefaultNamespace},
		Now: func() time.Time { return time.Now().Add(retention.DefaultUploadAge + time.Minute) },
	}
	n, err := sweep.Uploads(t.Context(), "large")
	do(t, err)
	equal(t, n, 1)
	equal(t, len(uploads(t, p.store, step)), 0)
	eventually(t, patience, "its parts stay", func() bool { return full-size(t, storeDir) > largeSize/16 })
}

// succeededWhole checks what the second step has seen.
func succeededWhole(t *testing.T, p target, r client.WorkflowRun) {
	t.Helper()
	last := succeeded(t, p, r, 2*patience)
	equal(t, output(t, last, "look", "size"), float64(largeSize+4))
	equal(t, output(t, last, "look", "last"), "end")
	s, _ := last.Step("make")
	equal(t, s.Retries, 0)
}

// watchOutput looks at the output all the time; the function that it returns ends
// that and tells how often it has.
func watchOutput(t *testing.T, s storage.Store, step string) func() int {
	t.Helper()
	stop, done := make(chan struct{}), make(chan int)
	go func() {
		looks := 0
		defer func() { done <- looks }()
		for tick := time.NewTicker(100 * time.Millisecond); ; <-tick.C {
			select {
			case <-stop:
				tick.Stop()
				return
			default:
			}
			for info, err := range storage.All(t.Context(), s, storage.ListOptions{Prefix: step}) {
				if err == nil && strings.HasSuffix(info.Key, "/big") && info.Size != largeSize+4 {
					t.Errorf("%s is visible with %d bytes", info.Key, info.Size)
				}
			}
			looks++
		}
	}()
	return func() int { close(stop); return <-done }
}

func uploads(t *testing.T, s storage.Store, prefix string) []storage.Upload {
	t.Helper()
	list, err := s.ListUploads(t.Context(), prefix)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// size sums up the files below a directory, some of which may go meanwhile.
func size(t *testing.T, dir string) (sum int64) {
	t.Helper()
	filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		if info, err := d.Info(); err == nil {
			sum += info.Size()
		}
		return nil
	})
	return sum
}
