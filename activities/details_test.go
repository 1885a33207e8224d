package activities

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/mesos"
)

// wide are details of n tasks, each on an agent of its own and in a state that
// takes much room. random makes agent IDs that do not compress.
func wide(n int, random bool) api.Details {
	dice := rand.New(rand.NewPCG(uint64(n), 7))
	noise := func(bytes int) string {
		b := make([]byte, bytes)
		for i := range b {
			b[i] = byte(dice.Uint32())
		}
		return hex.EncodeToString(b)
	}
	since := time.Date(2026, 1, 2, 3, 4, 5, 678901234, time.UTC)
	d := api.Details{
		Prefix: stepPrefix, Total: n, Framework: "baas", Leader: "worker-1@host-" + noise(8),
		Token: []byte(noise(150)), Reason: strings.Repeat("ü", 5000), Generations: map[int]int{},
	}
	for i := range n {
		master := "1f0c7d5e-2f1b-4b5e-9a55-0a7c5f0d1c11"
		host := fmt.Sprintf("agent-%d.example.com", i)
		if random {
			master, host = noise(16), noise(30)
		}
		d.Agents = append(d.Agents, api.AgentDetail{
			ID: fmt.Sprintf("%s-S%d", master, i), Host: host, Endpoint: "10.11.12.13:5051",
			Sandbox: "/var/lib/mesos/slaves/" + noise(90),
		})
		d.Tasks = append(d.Tasks, api.TaskDetail{
			First: i, Count: 1, Generation: 2 + i%7, Agent: i, State: "UNREACHABLE", Progress: "10/20 of " + noise(20),
			Log: "logs/" + noise(60) + "/%d.log", UnreachableSince: &since,
		})
		d.Losses = append(d.Losses, api.LossDetail{First: i, Count: 9, Crashes: 5, Alone: 2, Suspect: true, Agents: []int{i, (i + 1) % n, (i + 2) % n}})
		d.Generations[n+i] = 1
	}
	return d
}

// Whatever the sizes, details stay within their bound and name all tasks with
// their agents and generations, or say that they cannot.
func TestDetailsFit(t *testing.T) {
	for _, random := range []bool{false, true} {
		for _, n := range []int{1, 2, 8, 20, 50, 60, 100, 300} {
			want := wide(n, random)
			short, whole := fit(wide(n, random), api.MaxDetails)
			if !whole {
				if n <= 60 {
					t.Errorf("%d tasks on as many agents (random %v) have no room", n, random)
				}
				continue
			}
			data, err := json.Marshal(short)
			if err != nil || len(data) > api.MaxDetails {
				t.Fatalf("%d tasks: %d bytes, %v", n, len(data), err)
			}
			var got api.Details
			if err := json.Unmarshal(data, &got); err != nil {
				t.Fatal(err)
			}
			if got.Packed != nil || got.Prefix != want.Prefix || got.Total != n || len(got.Tasks) != n {
				t.Fatalf("%d tasks: %+v", n, got)
			}
			for i, task := range got.Tasks {
				w := want.Tasks[i]
				if task.First != w.First || task.Count != w.Count || task.Generation != w.Generation ||
					got.Agents[task.Agent].ID != want.Agents[w.Agent].ID {
					t.Fatalf("%d tasks: task %d is %+v", n, i, task)
				}
			}
			if !maps.Equal(got.Generations, want.Generations) {
				t.Fatalf("%d tasks: generations %v", n, got.Generations)
			}
		}
	}
}

// What compresses well keeps everything, for people and for live logs.
func TestDetailsKeepWhatHasRoom(t *testing.T) {
	want := wide(3, false)
	want.Reason = "no offers"
	for i := 3; i < 30; i++ {
		task := want.Tasks[i%3]
		task.First = i
		want.Tasks = append(want.Tasks, task)
	}
	short, whole := fit(want, api.MaxDetails)
	if !whole || short.Packed == nil || jsonSize(short) > api.MaxDetails {
		t.Fatalf("whole %v, %d bytes, packed %d", whole, jsonSize(short), len(short.Packed))
	}
	data, err := json.Marshal(short)
	if err != nil {
		t.Fatal(err)
	}
	var got api.Details
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func TestDamagedDetails(t *testing.T) {
	var d api.Details
	if err := json.Unmarshal([]byte(`{"packed":"AAAA"}`), &d); err == nil {
		t.Error("read without an error")
	}
}

// Details never outgrow their bound: what has no room in them is not launched
// before there is some.
func TestLaunchesWaitForRoomInTheDetails(t *testing.T) {
	const partitions = 40 // on agents with long names, to need few
	r := newRig(t, func(c *Config) { c.RetryPause = time.Hour })
	var indexes []int
	for i := range partitions {
		indexes = append(indexes, i)
	}
	dice := rand.New(rand.NewPCG(3, 3))
	r.deliver(input(indexes...), api.Details{}, 1)
	r.until(fmt.Sprintf("submit %d.1", partitions-1))
	var launched []int
	for _, i := range indexes {
		var agent string
		for range 16 {
			agent += fmt.Sprintf("%016x", dice.Uint64())
		}
		r.mu2.Lock()
		task := r.tasks[r.id(i, 1)]
		r.mu2.Unlock()
		launch := r.h.Placed(t.Context(), mesos.Placement{Agent: mesos.Agent{ID: agent, Hostname: agent}, Tasks: []mesos.Task{task}})[0]
		if launch.Err == nil {
			launched = append(launched, i)
		}
		r.mu2.Lock()
		if size := jsonSize(*r.details); size > api.MaxDetails {
			t.Fatalf("%d bytes", size)
		}
		r.mu2.Unlock()
	}
	if n := len(launched); n < 10 || n == partitions {
		t.Fatalf("%d of %d launched", n, partitions)
	}
	var read api.Details
	data, err := json.Marshal(*r.details)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &read); err != nil {
		t.Fatal(err)
	}
	var named []int
	for _, task := range read.Tasks {
		named = append(named, task.First)
	}
	if !slices.Equal(named, launched) {
		t.Errorf("launched %v, named %v", launched, named)
	}
}
