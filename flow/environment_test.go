package flow

import (
	"reflect"
	"testing"
)

func TestEnvironmentOfExecution(t *testing.T) {
	f, err := Parse("f.yaml", []byte(`
name: f
defaults: {user: batch, fetch: ['https://files.example/base.tar.zst']}
steps:
  plain: {run: x}
  own:
    run: x
    image: example.com:5000/team/tool:1.2
    isolation: task
    user: '1000:100'
    volumes: ['/data/reference:/reference', '/data/a b:/in:ro', '/scratch/x:/out:rw']
    fetch:
      - http://files.example/tools/model.bin?v=3
      - {uri: 'https://files.example/get?id=7', name: tool, executable: true, cache: false}
  none: {run: x, fetch: []}
`), Options{})
	if err != nil {
		t.Fatal(err)
	}
	base := []Fetch{{URI: "https://files.example/base.tar.zst", Name: "base.tar.zst"}}
	for id, want := range map[string]Step{
		"plain": {User: "batch", Fetch: base},
		"none":  {User: "batch"},
		"own": {User: "1000:100", Isolation: IsolationTask, Volumes: []Volume{
			{Host: "/data/reference", Path: "/reference"}, {Host: "/data/a b", Path: "/in"}, {Host: "/scratch/x", Path: "/out", Write: true},
		}, Fetch: []Fetch{
			{URI: "http://files.example/tools/model.bin?v=3", Name: "model.bin"},
			{URI: "https://files.example/get?id=7", Name: "tool", Executable: true, NoCache: true},
		}},
	} {
		s, _ := f.Step(id)
		if s.User != want.User || s.Isolation != want.Isolation || !reflect.DeepEqual(s.Fetch, want.Fetch) ||
			!reflect.DeepEqual(s.Volumes, want.Volumes) {
			t.Errorf("%s: %q %q %+v %+v", id, s.User, s.Isolation, s.Fetch, s.Volumes)
		}
	}
}
