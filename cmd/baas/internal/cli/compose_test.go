package cli

import (
	"os"
	"slices"
	"strings"
	"testing"

	urfave "github.com/urfave/cli/v2"
	"go.yaml.in/yaml/v3"
)

// The workers of docker-compose.yml are started with options and variables that
// the command has.
func TestComposeFileFitsTheWorker(t *testing.T) {
	raw, err := os.ReadFile("../../../../docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Worker struct {
			Environment map[string]string
		} `yaml:"x-worker"`
		Services map[string]struct{ Command []string }
	}
	if err := yaml.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	command := newBench(t).program.workerCommand()
	known := map[string]urfave.Flag{}
	for _, flag := range command.Flags {
		known["--"+flag.Names()[0]] = flag
	}
	for _, name := range []string{"worker-1", "worker-2"} {
		words := file.Services[name].Command
		if len(words) < 4 || words[0] != "worker" {
			t.Fatalf("%s runs %v", name, words)
		}
		for _, word := range words[1:] {
			option, _, valued := strings.Cut(word, "=")
			flag, ok := known[option].(urfave.DocGenerationFlag)
			if !ok || flag.TakesValue() != valued {
				t.Errorf("%s: baas worker has no %s", name, word)
			}
		}
		if !slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(w, "--storage=") }) {
			t.Errorf("%s has no storage", name)
		}
	}
	if file.Worker.Environment["BAAS_MESOS"] == "" {
		t.Error("the workers know no Mesos")
	}
	for variable := range file.Worker.Environment {
		if !strings.Contains(command.CustomHelpTemplate, variable) && variable != "TEMPORAL_ADDRESS" {
			t.Errorf("baas worker does not read %s", variable)
		}
	}
}
