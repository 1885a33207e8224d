package e2e

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/starter"
	"github.com/baas-batch/baas/storage"
)

// reduced has every hundredth of its partitions fail for good. Its reducing step takes
// the results apart by what each line says.
const reduced = `
name: reduced
defaults: {resources: {cpus: 0.05, mem: 32MB}}
steps:
  render:
    for_each: {from: 0, to: 499}
    min_success: 90%
    with: {n: '${{ item }}'}
    outputs: {square: int, note: file, packed: {type: file, compress: zstd, optional: true}}
    run: |
      [ $((BAAS_INPUT_N % 100)) != 7 ] || exit 3
      echo $((BAAS_INPUT_N * BAAS_INPUT_N)) >"$BAAS_OUTPUTS/square"
      echo "note of $BAAS_INPUT_N" >"$BAAS_OUTPUTS/note"
      [ $((BAAS_INPUT_N % 250)) != 0 ] || echo "packed $BAAS_INPUT_N" >"$BAAS_OUTPUTS/packed"
  total:
    reduce: render
    retry: {attempts: 2, backoff: 10ms}
    with: {title: all}
    outputs: {results: file, notes: file, packed: file, third: string}
    run: |
      [ "$BAAS_ATTEMPT" = 2 ] || exit 1
      [ "$BAAS_INPUT_TITLE" = all ]
      cp "$BAAS_INPUT_RESULTS" "$BAAS_OUTPUTS/results"
      cp "$BAAS_INPUT_NOTE" "$BAAS_OUTPUTS/notes"
      cp "$BAAS_INPUTS/packed" "$BAAS_OUTPUTS/packed"
      at=$(sed -n 's/^{"partition":3,.*"note":{"offset":\([0-9]*\),"size":\([0-9]*\)}.*/\1 \2/p' "$BAAS_INPUTS/results")
      tail -c +$((${at% *} + 1)) "$BAAS_INPUTS/note" | head -c ${at#* } >"$BAAS_OUTPUTS/third"
`

// A step gets all results of another one, in order.
func TestReduce(t *testing.T) {
	const n = 500
	p := of(start(t))
	r := run(t, p, map[string]string{"flow.yaml": reduced}, nil)
	last := succeeded(t, p, r, 2*patience)
	s, _ := last.Step("render")
	equal(t, []int{s.Partitions, s.Done, s.Failed}, []int{n, n - n/100, n / 100})

	var results, notes strings.Builder
	offset, packed := 0, 0
	for i := range n {
		if i%100 == 7 {
			fmt.Fprintf(&results, `{"partition":%d,"outcome":"failed"}`+"\n", i)
			continue
		}
		note := fmt.Sprintf("note of %d\n", i)
		fmt.Fprintf(&results, `{"partition":%d,"outcome":"succeeded","outputs":{"note":{"offset":%d,"size":%d}`, i, offset, len(note))
		if i%250 == 0 {
			size := len(fmt.Sprintf("packed %d\n", i))
			fmt.Fprintf(&results, `,"packed":{"offset":%d,"size":%d}`, packed, size)
			packed += size
		}
		fmt.Fprintf(&results, `,"square":%d}}`+"\n", i*i)
		notes.WriteString(note)
		offset += len(note)
	}
	equal(t, outputText(t, p, last, "total", "results"), results.String())
	equal(t, outputText(t, p, last, "total", "notes"), notes.String())
	equal(t, outputText(t, p, last, "total", "packed"), "packed 0\npacked 250\n")
	equal(t, output(t, last, "total", "third"), any("note of 3"))
}

// outputText reads an output of type file.
func outputText(t *testing.T, p target, r starter.Run, step, name string) string {
	t.Helper()
	ref, ok := flow.AsFile(output(t, r, step, name))
	if !ok {
		t.Fatalf("output %s of %s is no file", name, step)
	}
	var content bytes.Buffer
	if err := storage.CopyVerified(t.Context(), &content, p.store, storage.Content{
		Key: ref.Key, Offset: ref.Offset, Size: ref.Size, SHA256: ref.SHA256,
	}); err != nil {
		t.Fatal(err)
	}
	return content.String()
}
