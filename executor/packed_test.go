package executor

import (
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/baas-batch/baas/tasklet"
)

func TestCompressedFile(t *testing.T) {
	r := newRig(t, setup{tune: func(t *Tuning) { t.SplitDownload, t.DownloadPart, t.MinCached = 100<<10, 30<<10, 1<<30 }})
	l := r.job("seq 100000 > $BAAS_OUTPUTS/out; : > $BAAS_OUTPUTS/empty; cat $BAAS_OUTPUTS/* | cksum")
	for _, name := range []string{"out", "empty"} {
		r.output(l, name, tasklet.TypeFile)
		l.Outputs[len(l.Outputs)-1].Compress = tasklet.EncodingZstd
	}
	res := r.one(l)
	ref, empty := refOf(t, res, "out"), refOf(t, res, "empty")
	object, _ := r.store.get(ref.Key)
	z, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	plain, err := z.DecodeAll(object, nil)
	if err != nil || int64(len(plain)) != ref.Size || ref.Packed.Size != int64(len(object)) || len(object) > len(plain)/2 || empty.IsPacked() {
		t.Fatalf("%v %+v %+v", err, ref, empty)
	}
	next := r.reader("cat $BAAS_INPUT_IN | cksum; stat -c %s $BAAS_INPUT_IN", ref)
	if got := r.one(next); got.Usage.Fetched != ref.Packed.Size || r.logOf(next, 0) != r.logOf(l, 0)+"588895\n" {
		t.Errorf("%+v %s", got, r.logOf(next, 0))
	}

	wrong, small := ref, ref
	wrong.SHA256 = strings.Repeat("0", 64)
	small.Size--
	foreign := r.store.put("foreign", []byte("this was never compressed")).FileRef
	foreign.Packed = tasklet.Packed{Encoding: tasklet.EncodingZstd, Size: foreign.Size, SHA256: foreign.SHA256}
	for reason, bad := range map[string]tasklet.FileRef{"content has SHA-256": wrong, "more than 588894 bytes": small, "no zstd": foreign} {
		if res := r.one(r.reader("true", bad)); res.Outcome == tasklet.Succeeded || !strings.Contains(res.Reason, reason) {
			t.Errorf("%s: %+v", reason, res)
		}
	}
}

// What was compressed stays in the cache as it is.
func TestCompressedFileInTheCache(t *testing.T) {
	r := newRig(t, setup{})
	l := r.job("seq 100000 | tee $BAAS_OUTPUTS/out | cksum")
	r.output(l, "out", tasklet.TypeFile)
	l.Outputs[0].Compress = tasklet.EncodingZstd
	ref := refOf(t, r.one(l), "out")
	next := r.reader("cksum < $BAAS_INPUT_IN", ref)
	if got := r.one(next); got.Usage.Cached != ref.Size || got.Usage.Fetched != 0 || r.logOf(next, 0) != r.logOf(l, 0) {
		t.Errorf("%+v", got)
	}
}
