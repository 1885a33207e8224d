package checkpoint

import (
	"os"
	"path/filepath"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
)

// FrameworkState is what was kept of a framework.
type FrameworkState struct {
	Info      mesos.FrameworkInfo
	Executors []ExecutorState
}

// ExecutorState is what was kept of an executor's run.
type ExecutorState struct {
	Info        mesos.ExecutorInfo
	ContainerID string
	Tasks       []*TaskState
	Log         *Log // open for more
}

// Recover reads all frameworks of the agent. What cannot be read is reported to
// skipped and left out.
func (s *Store) Recover(skipped func(path string, err error)) []FrameworkState {
	var frameworks []FrameworkState
	for _, name := range subdirectories(filepath.Join(s.latest(), "frameworks")) {
		var state FrameworkState
		path := filepath.Join(s.framework(name), "framework.info")
		if err := readMessage(path, &state.Info); err != nil {
			skipped(path, err)
			continue
		}
		for _, id := range subdirectories(filepath.Join(s.framework(name), "executors")) {
			executor, err := s.recoverExecutor(name, id)
			if err != nil {
				skipped(s.executor(name, id), err)
				continue
			}
			state.Executors = append(state.Executors, executor)
		}
		frameworks = append(frameworks, state)
	}
	return frameworks
}

func (s *Store) recoverExecutor(framework, id string) (ExecutorState, error) {
	dir := s.executor(framework, id)
	var state ExecutorState
	if err := readMessage(filepath.Join(dir, "executor.info"), &state.Info); err != nil {
		return state, err
	}
	run, err := os.ReadFile(filepath.Join(dir, "run"))
	if err != nil {
		return state, err
	}
	state.ContainerID = string(run)
	path := filepath.Join(dir, "tasks.log")
	if state.Tasks, err = readLog(path); err != nil {
		return state, err
	}
	if state.Log, err = openLog(path); err != nil {
		return state, err
	}
	// This drops completed tasks, and a torn end that would hide what follows.
	return state, state.Log.compact()
}

func subdirectories(path string) []string {
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil
	}
	var names []string
	for _, entry := range entries {
		if entry.IsDir() {
			names = append(names, entry.Name())
		}
	}
	return names
}
