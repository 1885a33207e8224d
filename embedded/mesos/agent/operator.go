package agent

import (
	"net/http"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	proto "github.com/mesos/mesos-go/api/v1/lib/agent"

	"github.com/baas-batch/baas/embedded/mesos/agent/internal/container"
	"github.com/baas-batch/baas/embedded/mesos/agent/internal/files"
)

// serveOperator is the v1 agent API (docs/operator-http-api.md), as far as an
// agent without nested containers and resource providers has it.
func (a *Agent) serveOperator(w http.ResponseWriter, r *http.Request) {
	var call proto.Call
	if err := readCall(w, r, &call); err != nil {
		fail(w, err)
		return
	}
	asJSON, err := accepts(r)
	if err != nil {
		fail(w, err)
		return
	}
	response, err := a.answer(call)
	if err != nil {
		fail(w, err)
		return
	}
	body, err := marshal(response, asJSON)
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", contentType(asJSON))
	_, _ = w.Write(body) // who asked has gone
}

func (a *Agent) answer(call proto.Call) (*proto.Response, error) {
	switch call.Type {
	case proto.Call_GET_HEALTH:
		return &proto.Response{Type: proto.Response_GET_HEALTH, GetHealth: &proto.Response_GetHealth{Healthy: true}}, nil
	case proto.Call_GET_VERSION:
		return &proto.Response{Type: proto.Response_GET_VERSION, GetVersion: &proto.Response_GetVersion{
			VersionInfo: mesos.VersionInfo{Version: Version},
		}}, nil
	case proto.Call_LIST_FILES, proto.Call_READ_FILE:
		return a.answerFiles(call)
	case proto.Call_GET_CONTAINERS:
		return a.answerContainers()
	}
	response, err := (*proto.Response)(nil), error(errStopped)
	a.box.call(func() { response, err = a.answerState(call) })
	return response, err
}

func (a *Agent) answerFiles(call proto.Call) (*proto.Response, error) {
	if call.Type == proto.Call_LIST_FILES {
		if call.ListFiles == nil {
			return nil, refuse(http.StatusBadRequest, "Expecting 'list_files' to be present")
		}
		list, err := files.Browse(a.resolve, call.ListFiles.Path)
		if err != nil {
			return nil, filesError(err)
		}
		return &proto.Response{Type: proto.Response_LIST_FILES, ListFiles: &proto.Response_ListFiles{FileInfos: list}}, nil
	}
	if call.ReadFile == nil {
		return nil, refuse(http.StatusBadRequest, "Expecting 'read_file' to be present")
	}
	length := int64(-1)
	if l := call.ReadFile.Length; l != nil {
		length = int64(min(*l, uint64(files.MaxRead)))
	}
	offset := int64(min(call.ReadFile.Offset, 1<<62))
	size, data, err := files.Read(a.resolve, call.ReadFile.Path, offset, length)
	if err != nil {
		return nil, filesError(err)
	}
	if data == nil {
		data = []byte{}
	}
	return &proto.Response{Type: proto.Response_READ_FILE, ReadFile: &proto.Response_ReadFile{
		Size_: uint64(size), Data: data,
	}}, nil
}

func (a *Agent) answerState(call proto.Call) (*proto.Response, error) {
	switch call.Type {
	case proto.Call_GET_AGENT:
		info := a.info
		return &proto.Response{Type: proto.Response_GET_AGENT, GetAgent: &proto.Response_GetAgent{AgentInfo: &info}}, nil
	case proto.Call_GET_FRAMEWORKS:
		return &proto.Response{Type: proto.Response_GET_FRAMEWORKS, GetFrameworks: a.allFrameworks()}, nil
	case proto.Call_GET_EXECUTORS:
		return &proto.Response{Type: proto.Response_GET_EXECUTORS, GetExecutors: a.allExecutors()}, nil
	case proto.Call_GET_TASKS:
		return &proto.Response{Type: proto.Response_GET_TASKS, GetTasks: a.allTasks()}, nil
	case proto.Call_GET_STATE:
		return &proto.Response{Type: proto.Response_GET_STATE, GetState: &proto.Response_GetState{
			GetTasks: a.allTasks(), GetExecutors: a.allExecutors(), GetFrameworks: a.allFrameworks(),
		}}, nil
	case proto.Call_UNKNOWN:
		return nil, refuse(http.StatusBadRequest, "Failed to validate agent::Call: Expecting 'type' to be present")
	}
	return nil, refuse(http.StatusNotImplemented, "The embedded agent does not implement the call %s", call.Type)
}

func (a *Agent) allFrameworks() *proto.Response_GetFrameworks {
	all := &proto.Response_GetFrameworks{}
	for _, f := range a.frameworks {
		all.Frameworks = append(all.Frameworks, proto.Response_GetFrameworks_Framework{FrameworkInfo: f.info})
	}
	for _, f := range a.completed {
		all.CompletedFrameworks = append(all.CompletedFrameworks, proto.Response_GetFrameworks_Framework{FrameworkInfo: f.info})
	}
	return all
}

// eachExecutor visits all executors that are remembered.
func (a *Agent) eachExecutor(visit func(e *executorRun, completed bool)) {
	for _, f := range a.frameworks {
		for _, e := range f.executors {
			visit(e, false)
		}
		for _, e := range f.completed {
			visit(e, true)
		}
	}
	for _, f := range a.completed {
		for _, e := range f.completed {
			visit(e, true)
		}
	}
}

func (a *Agent) allExecutors() *proto.Response_GetExecutors {
	all := &proto.Response_GetExecutors{}
	a.eachExecutor(func(e *executorRun, completed bool) {
		described := proto.Response_GetExecutors_Executor{ExecutorInfo: e.info}
		if completed {
			all.CompletedExecutors = append(all.CompletedExecutors, described)
		} else {
			all.Executors = append(all.Executors, described)
		}
	})
	return all
}

// allTasks copies: what is marshalled later must not change meanwhile.
func (a *Agent) allTasks() *proto.Response_GetTasks {
	all := &proto.Response_GetTasks{}
	a.eachExecutor(func(e *executorRun, _ bool) {
		for _, t := range e.queued {
			all.QueuedTasks = append(all.QueuedTasks, newTask(t, e.framework, mesos.TASK_STAGING))
		}
		for _, t := range e.launched {
			all.LaunchedTasks = append(all.LaunchedTasks, copyTask(t))
		}
		for _, t := range e.terminated {
			all.TerminatedTasks = append(all.TerminatedTasks, copyTask(t))
		}
		all.CompletedTasks = append(all.CompletedTasks, e.completed...)
	})
	return all
}

func copyTask(t *mesos.Task) mesos.Task {
	c := *t
	c.Statuses = append([]mesos.TaskStatus(nil), t.Statuses...)
	return c
}

func (a *Agent) answerContainers() (*proto.Response, error) {
	type living struct {
		described proto.Response_GetContainers_Container
		container *container.Container
		limit     int64
		cpus      float64
	}
	var all []living
	if !a.box.call(func() {
		a.eachExecutor(func(e *executorRun, completed bool) {
			if completed || e.container == nil || e.state == executorTerminated {
				return
			}
			framework, id := e.framework, e.id()
			pid := uint32(e.container.Record().PID)
			containerID := mesos.ContainerID{Value: e.containerID}
			all = append(all, living{proto.Response_GetContainers_Container{
				FrameworkID: &framework, ExecutorID: &id, ExecutorName: e.info.Name, ContainerID: containerID,
				ContainerStatus: &mesos.ContainerStatus{ContainerID: &containerID, ExecutorPID: &pid},
			}, e.container, e.memory, sum(e.resources(), "cpus")})
		})
	}) {
		return nil, errStopped
	}
	list := &proto.Response_GetContainers{}
	for _, l := range all {
		l.described.ResourceStatistics = statistics(l.container.Usage(), l.limit, l.cpus)
		list.Containers = append(list.Containers, l.described)
	}
	return &proto.Response{Type: proto.Response_GET_CONTAINERS, GetContainers: list}, nil
}

func statistics(u container.Usage, memory int64, cpus float64) *mesos.ResourceStatistics {
	processes, threads, rss := uint32(u.Processes), uint32(u.Threads), uint64(u.Memory)
	user, system := u.User.Seconds(), u.System.Seconds()
	s := &mesos.ResourceStatistics{
		Timestamp: float64(time.Now().UnixNano()) / 1e9, Processes: &processes, Threads: &threads,
		CPUsUserTimeSecs: &user, CPUsSystemTimeSecs: &system, CPUsLimit: &cpus, MemRSSBytes: &rss,
	}
	if memory > 0 {
		limit := uint64(memory)
		s.MemLimitBytes = &limit
	}
	return s
}
