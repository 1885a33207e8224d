package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/baas-batch/baas/platform"
	"github.com/baas-batch/baas/tasklet"
	"github.com/baas-batch/baas/tests/servers"
	"github.com/baas-batch/baas/worker"
)

// directories passes a small directory, a large one and a large file on, and gives
// what they hold as text.
const directories = `
name: directories
params: {given: directory}
steps:
  make:
    run: |
      set -e
      cp -r "$BAAS_INPUT_GIVEN" "$BAAS_OUTPUTS/small"; ln -s sub/x "$BAAS_OUTPUTS/small/made"
      mkdir -p "$BAAS_OUTPUTS/large/deep/er" "$BAAS_OUTPUTS/large/none"; cd "$BAAS_OUTPUTS/large"
      for i in 1 2 3; do yes "content $i" | head -c 25000000 >"deep/$i"; done
      for i in $(seq 300); do echo "$i" >"deep/er/$i"; done
      chmod 555 deep/er; chmod 700 deep/1; ln -s deep/er/7 seven
      yes "a large file" | head -c 100000000 >"$BAAS_OUTPUTS/file"
      cd "$BAAS_OUTPUTS"; ./small/list.sh small large file >"$BAAS_OUTPUTS/listing"
    with: {given: '${{ params.given }}'}
    outputs: {small: directory, large: directory, file: file, listing: {type: file, compress: zstd}}
  use:
    run: |
      set -e
      cd "$BAAS_INPUTS"; ./small/list.sh small large file >"$BAAS_OUTPUTS/listing"
      diff listing "$BAAS_OUTPUTS/listing"
      test -x seven/00000-given/list.sh; test "$(cat large/seven)" = 7
    with:
      small: '${{ steps.make.outputs.small }}'
      large: '${{ steps.make.outputs.large }}'
      file: '${{ steps.make.outputs.file }}'
      listing: '${{ steps.make.outputs.listing }}'
      seven: '${{ [params.given] }}'
    outputs: {listing: file}
`

// list writes kinds, modes, names, links and contents.
const list = `#!/bin/sh
find "$@" -mindepth 1 -printf '%y %m %p %l\n' | LC_ALL=C sort
find "$@" -type f | LC_ALL=C sort | xargs cksum
`

// Directories pass by every store as they are.
func TestDirectories(t *testing.T) {
	s3, swift := servers.StartS3(t, nil), servers.StartSwift(t)
	s3.Credentials(t)
	swift.Credentials(t)
	for name, url := range map[string]string{"files": "", "S3": s3.Bucket(t, "directories"), "Swift": swift.Container(t, "directories")} {
		t.Run(name, func(t *testing.T) {
			passDirectories(t, of(start(t, func(c *platform.Config) {
				c.StorageURL = url
				// By default it depends on the disk.
				c.Worker = func(w *worker.Config) { w.Mesos.ExecutorEnv = map[string]string{tasklet.EnvCacheSize: "1000000000"} }
			})))
		})
	}
}

func passDirectories(t *testing.T, p target) {
	given := filepath.Join(dir(t), "given")
	if err := os.MkdirAll(filepath.Join(given, "sub", "empty"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{"list.sh": 0o755, "sub/x": 0o640} {
		if err := os.WriteFile(filepath.Join(given, name), []byte(list), mode); err != nil {
			t.Fatal(err)
		}
	}
	last := succeeded(t, p, run(t, p, map[string]string{"flow.yaml": directories}, map[string]string{"given": given}), 3*time.Minute)

	forms := map[string]tasklet.Form{}
	found := t.TempDir()
	for _, o := range last.Outputs() {
		forms[o.Step+"."+o.Name] = o.Files[0].Form
		if _, err := p.runs().Download(t.Context(), o, found); err != nil {
			t.Fatal(err)
		}
	}
	equal(t, forms, map[string]tasklet.Form{
		"make.small": tasklet.FormArchive, "make.large": tasklet.FormTree, "make.file": "", "make.listing": "", "use.listing": "",
	})
	use, _ := last.Step("use")
	if use.Usage.Cached < 175_000_000 || use.Usage.Fetched > 1_000_000 {
		t.Errorf("the second step fetched %d bytes and took %d from the cache", use.Usage.Fetched, use.Usage.Cached)
	}

	// What is downloaded is what the tasks saw.
	outputs := map[string]string{"small": "small/small", "large": "large/large", "file": "file/file"}
	flat := t.TempDir()
	for name, from := range outputs {
		if err := os.Rename(filepath.Join(found, "make", from), filepath.Join(flat, name)); err != nil {
			t.Fatal(err)
		}
	}
	command := exec.CommandContext(t.Context(), "./small/list.sh", "small", "large", "file")
	command.Dir = flat
	have, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join(found, "use", "listing", "listing"))
	if err != nil {
		t.Fatal(err)
	}
	equal(t, string(have), string(want))
	for _, line := range []string{"d 755 small/sub/empty \n", "l 777 small/made sub/x\n", "d 555 large/deep/er \n", "f 700 large/deep/1 \n"} {
		if !strings.Contains(string(want), line) {
			t.Errorf("no %q in\n%.2000s", line, want)
		}
	}
}
