// Package compose checks docker-compose.yml and Dockerfile as far as that can be
// done without a container engine.
package compose

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

const root = "../.."

func project(t *testing.T) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{filepath.Join(root, "docker-compose.yml")},
		cli.WithWorkingDirectory(root), cli.WithResolvedPaths(true), cli.WithConsistency(true), cli.WithNormalization(true))
	if err != nil {
		t.Fatal(err)
	}
	p, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestServices(t *testing.T) {
	p := project(t)
	want := []string{
		"mail", "mesos-agent-1", "mesos-agent-2", "mesos-master", "postgresql", "s3", "temporal", "temporal-namespace",
		"temporal-schema", "temporal-ui", "worker-1", "worker-2", "zookeeper",
	}
	if got := p.ServiceNames(); !slices.Equal(got, want) {
		t.Fatalf("services are %v, want %v", got, want)
	}
	for name, s := range p.Services {
		ends := name == "temporal-schema" || name == "temporal-namespace"
		if !ends && (s.HealthCheck == nil || len(s.HealthCheck.Test) < 2) {
			t.Errorf("%s has no health check", name)
		}
		for needed, how := range s.DependsOn {
			_, known := p.Services[needed]
			if !known || how.Condition == "" {
				t.Errorf("%s depends on %s, %q", name, needed, how.Condition)
			}
			if how.Condition == types.ServiceConditionHealthy && p.Services[needed].HealthCheck == nil {
				t.Errorf("%s waits for the health of %s, which has no check", name, needed)
			}
		}
	}
}

func TestPortsAreOnLoopback(t *testing.T) {
	taken := map[string]string{}
	for name, s := range project(t).Services {
		if s.NetworkMode == "host" || s.Privileged {
			t.Errorf("%s: network %q, privileged %v", name, s.NetworkMode, s.Privileged)
		}
		for _, port := range s.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s publishes port %d on %q", name, port.Target, port.HostIP)
			}
			if other, twice := taken[port.Published]; twice {
				t.Errorf("%s and %s both publish %s", other, name, port.Published)
			}
			taken[port.Published] = name
		}
	}
	if len(taken) < 8 {
		t.Errorf("published are %v", taken)
	}
}

// Every image names a version, and docs/compose.md says where it was checked.
func TestImagesArePinned(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join(root, "docs", "compose.md"))
	if err != nil {
		t.Fatal(err)
	}
	images := map[string]bool{}
	for _, s := range project(t).Services {
		images[s.Image] = true
	}
	from := regexp.MustCompile(`(?m)^FROM (\S+)`)
	for _, name := range []string{"Dockerfile", "docker/mesos.Dockerfile"} {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range from.FindAllStringSubmatch(string(text), -1) {
			if m[1] != "scratch" {
				images[m[1]] = true
			}
		}
	}
	for image := range images {
		name, tag, _ := strings.Cut(image, ":")
		if tag == "" || tag == "latest" {
			t.Errorf("image %q names no version", image)
		}
		if !strings.Contains(string(doc), "`"+image+"`") {
			t.Errorf("docs/compose.md does not say where %s (%s) was checked", name, image)
		}
	}
}

func TestMountedFilesExist(t *testing.T) {
	p := project(t)
	binds := 0
	for name, s := range p.Services {
		for _, v := range s.Volumes {
			switch v.Type {
			case types.VolumeTypeBind:
				binds++
				info, err := os.Stat(v.Source)
				if err != nil || !info.Mode().IsRegular() || !v.ReadOnly {
					t.Errorf("%s mounts %s (read-only %v): %v", name, v.Source, v.ReadOnly, err)
				}
			case types.VolumeTypeVolume:
				if _, declared := p.Volumes[v.Source]; !declared {
					t.Errorf("%s mounts volume %s, which is not declared", name, v.Source)
				}
			}
		}
		if s.Build == nil {
			continue
		}
		file := filepath.Join(s.Build.Context, s.Build.Dockerfile)
		if _, err := os.Stat(file); err != nil {
			t.Errorf("%s is built from %s: %v", name, file, err)
		}
	}
	if binds == 0 {
		t.Error("no file is mounted: nothing was looked at")
	}
}

// The workers have nothing that they do not need. That their options are options
// of `baas worker` is tested beside that command.
func TestWorkers(t *testing.T) {
	for _, name := range []string{"worker-1", "worker-2"} {
		s := project(t).Services[name]
		if s.User != "" && s.User != "65532:65532" || !s.ReadOnly || !slices.Contains(s.CapDrop, "ALL") {
			t.Errorf("%s: user %q, read-only %v, capabilities dropped %v", name, s.User, s.ReadOnly, s.CapDrop)
		}
	}
}

// The image runs as nobody in particular, and holds static programs only.
func TestDockerfile(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	last := string(text)[strings.LastIndex(string(text), "\nFROM "):]
	for _, want := range []string{"FROM scratch", "USER 65532:65532", "COPY --from=build /out/baas /out/baas-executor", `ENTRYPOINT ["/usr/local/bin/baas"]`} {
		if !strings.Contains(last, want) {
			t.Errorf("the last stage lacks %q", want)
		}
	}
	if !strings.Contains(string(text), "CGO_ENABLED=0") {
		t.Error("the programs are not static")
	}
}
