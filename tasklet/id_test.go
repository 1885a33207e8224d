package tasklet

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestTaskID(t *testing.T) {
	id := TaskID{WorkflowID: "statements-9f86d081884c7d65", RunID: "01a2064c-2b61-73d9-82f6-d216d6366659", ActivityID: "render-12", First: 41, Generation: 2}
	back, err := ParseTaskID(id.String())
	if err != nil || back != id {
		t.Fatalf("%v, %v", back, err)
	}
	if back.Activity() != (ActivityKey{id.WorkflowID, id.RunID, id.ActivityID}) {
		t.Errorf("activity %v", back.Activity())
	}
}

func TestInvalidTaskIDs(t *testing.T) {
	good := TaskID{WorkflowID: "w", RunID: "r", ActivityID: "a", First: 0, Generation: 1}
	for name, change := range map[string]func(*TaskID){
		"slash":         func(id *TaskID) { id.WorkflowID = "a/b" },
		"separator":     func(id *TaskID) { id.ActivityID = "a~b" },
		"control":       func(id *TaskID) { id.RunID = "a\n" },
		"empty":         func(id *TaskID) { id.RunID = "" },
		"partition":     func(id *TaskID) { id.First = -1 },
		"no generation": func(id *TaskID) { id.Generation = 0 },
		"not UTF-8":     func(id *TaskID) { id.WorkflowID = "w\xff" },
		"too long":      func(id *TaskID) { id.WorkflowID = strings.Repeat("w", MaxIDLength) },
	} {
		id := good
		change(&id)
		if id.Validate() == nil {
			t.Errorf("%s: %q is taken", name, id)
		}
	}
	for _, text := range []string{"", "a~b~c", "w~r~a~x~1", "w~r~a~0~x", "w~r~a~0~0", "w~r~a~0~1~2", "w~r~a~00~1", "w~r~a~+0~1"} {
		if id, err := ParseTaskID(text); err == nil {
			t.Errorf("%q is taken as %v", text, id)
		}
	}
}

// FuzzParseTaskID: an ID that is taken is one that Mesos takes, and no two texts
// stand for the same task.
func FuzzParseTaskID(f *testing.F) {
	for _, text := range []string{"w~r~a~0~1", "~~~~", "w~r~a~00~1", "w~r~a~+1~1", "w~r~a~-0~1", "w~r~a~1_0~1", "w~r~a~0~9223372036854775808", "w\xff~r~a~0~1"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		id, err := ParseTaskID(text)
		if err != nil {
			return
		}
		if err := id.Validate(); err != nil || len(text) > MaxIDLength || !utf8.ValidString(text) || strings.ContainsAny(text, "/\\\x00\n") {
			t.Errorf("%q is taken: %v", text, err)
		}
		if id.String() != text {
			t.Errorf("%q and %q are the same task", text, id)
		}
	})
}

func TestInputVariable(t *testing.T) {
	for name, want := range map[string]string{
		"month": "BAAS_INPUT_MONTH", "part-2": "BAAS_INPUT_PART_2", "é": "BAAS_INPUT__",
	} {
		if got := InputVariable(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}
