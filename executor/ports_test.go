package executor

import (
	"slices"
	"testing"

	"github.com/baas-batch/baas/tasklet"
)

func TestPortsInEnvironment(t *testing.T) {
	env, err := environment(Config{}, &tasklet.Launch{Ports: []int{31007, 31008}}, tasklet.Partition{}, dirs{})
	if err != nil || !slices.Contains(env, "BAAS_PORT=31007") || !slices.Contains(env, "BAAS_PORTS=31007 31008") {
		t.Errorf("environment is %v (%v)", env, err)
	}
}
