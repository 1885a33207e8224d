package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"github.com/baas-batch/baas/embedded/mesos/agent/internal/container"
	"github.com/baas-batch/baas/embedded/mesos/agent/internal/fetcher"
)

// credential is the user of a container.
type credential struct {
	name      string                // "" when nobody asked for one
	container *container.Credential // nil: the agent's own
}

// credential finds the user to run as: that of the command, else that of the
// framework. Only an agent that is root can switch; another acts as with
// --no-switch_user.
func (a *Agent) credential(f mesos.FrameworkInfo, e mesos.ExecutorInfo) (*credential, error) {
	name := f.User
	if e.Command != nil && e.Command.User != nil {
		name = *e.Command.User
	}
	if name == "" || os.Geteuid() != 0 {
		return &credential{name: name}, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("failed to get user information for '%s': %w", name, err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	c := &container.Credential{UID: uint32(uid), GID: uint32(gid)}
	if c.UID == 0 {
		return &credential{name: name}, nil
	}
	groups, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("groups of '%s': %w", name, err)
	}
	for _, group := range groups {
		if id, err := strconv.ParseUint(group, 10, 32); err == nil {
			c.Groups = append(c.Groups, uint32(id))
		}
	}
	return &credential{name: name, container: c}, nil
}

// plan is all that the launch of a container needs, so that it runs outside of
// the mailbox.
type plan struct {
	id, dir    string
	command    mesos.CommandInfo
	credential *credential
	env        []string
	memory     int64
}

// launch starts an executor. The time that fetching takes counts for the time
// that the executor has to subscribe, as in Mesos.
func (a *Agent) launch(f *framework, e *executorRun) {
	e.launching = true
	ctx, cancel := context.WithCancel(a.ctx)
	e.cancel = cancel
	a.box.after(a.cfg.ExecutorRegistrationTimeout, func() { a.registrationTimeout(e) })

	why := unsupportedContainer(e.info.Container)
	owner, err := a.credential(f.info, e.info)
	p := plan{id: e.containerID, dir: e.directory, command: *e.info.Command, credential: owner,
		env: a.environment(f, e), memory: e.memory}
	a.work.Go(func() {
		defer cancel()
		var c *container.Container
		if why != "" {
			err = errors.New(why)
		}
		if err == nil {
			c, err = a.startContainer(ctx, p)
		}
		a.box.post(func() { a.launched(e, c, err) })
	})
}

// unsupportedContainer says what the posix isolators lack for a container.
func unsupportedContainer(info *mesos.ContainerInfo) string {
	switch {
	case info == nil:
		return ""
	case info.GetType() != mesos.ContainerInfo_MESOS:
		return "none of the enabled containerizers (mesos) could create a container of type " + info.GetType().String()
	case info.Mesos != nil && info.Mesos.Image != nil:
		return "container images are not supported"
	case len(info.Volumes) > 0:
		return "volumes are not supported"
	case len(info.NetworkInfos) > 0 || info.Hostname != nil:
		return "container networks are not supported"
	case info.LinuxInfo != nil:
		return "LinuxInfo is not supported"
	case info.RlimitInfo != nil:
		return "RLimitInfo is not supported"
	case info.TTYInfo != nil:
		return "TTYInfo is not supported"
	}
	return ""
}

func (a *Agent) startContainer(ctx context.Context, p plan) (*container.Container, error) {
	if err := a.fetch(ctx, p); err != nil {
		return nil, err
	}
	if p.credential.container != nil {
		if err := chown(p.dir, p.credential.container); err != nil {
			return nil, err
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	record := container.Prepare(p.id, !a.cfg.NoCgroups)
	record.Memory = p.memory
	if err := a.store.SaveContainer(record); err != nil {
		return nil, err
	}
	path, args := commandLine(p)
	c, err := container.Start(record, container.Spec{
		Dir: p.dir, Path: path, Args: args, Env: p.env, Credential: p.credential.container,
	})
	if err != nil {
		appendTo(filepath.Join(p.dir, "stderr"), err.Error())
		return nil, errors.Join(err, a.store.RemoveContainer(p.id))
	}
	if err := a.store.SaveContainer(c.Record()); err != nil {
		return nil, errors.Join(err, c.Kill(), a.store.RemoveContainer(p.id))
	}
	return c, nil
}

func (a *Agent) fetch(ctx context.Context, p plan) error {
	stdout, err := openSandboxLog(filepath.Join(p.dir, "stdout")) // so that it gets its owner
	if err != nil {
		return err
	}
	stdout.Close()
	log, err := openSandboxLog(filepath.Join(p.dir, "stderr"))
	if err != nil {
		return err
	}
	defer log.Close()
	err = a.fetcher.Fetch(ctx, fetcher.Request{
		Sandbox: p.dir, URIs: p.command.URIs, User: p.credential.name, Credential: p.credential.container, Log: log,
	})
	if err != nil {
		return fmt.Errorf("failed to fetch all URIs for container '%s': %w", p.id, err)
	}
	return nil
}

// openSandboxLog follows no link: what was fetched may have put one there.
func openSandboxLog(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND|syscall.O_NOFOLLOW, 0o644)
}

func appendTo(path, line string) {
	f, err := openSandboxLog(path)
	if err != nil {
		return
	}
	defer f.Close()
	fmt.Fprintln(f, line)
}

func chown(dir string, owner *container.Credential) error {
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(owner.UID), int(owner.GID))
	})
}

// commandLine gives what to execute: with a shell, sh -c value; else value, with
// the arguments from argv[0] on.
func commandLine(p plan) (path string, args []string) {
	value := p.command.GetValue()
	if p.command.Shell == nil || *p.command.Shell {
		return "/bin/sh", []string{"sh", "-c", value}
	}
	args = p.command.Arguments
	if len(args) == 0 {
		args = []string{value}
	}
	if strings.ContainsRune(value, '/') {
		return value, args
	}
	for _, entry := range p.env {
		list, ok := strings.CutPrefix(entry, "PATH=")
		if !ok {
			continue
		}
		for _, dir := range filepath.SplitList(list) {
			if found, err := exec.LookPath(filepath.Join(dir, value)); err == nil && filepath.IsAbs(found) {
				return found, args
			}
		}
	}
	return value, args
}

// launched takes the outcome of a launch.
func (a *Agent) launched(e *executorRun, c *container.Container, err error) {
	if err != nil {
		log := a.log.With("framework", e.framework.Value, "executor", e.id().Value)
		status := int32(container.UnknownStatus)
		var failed *container.ExecError
		if errors.As(err, &failed) {
			// In Mesos the launch helper is up by then: it ends with status 1.
			log.Warn("executor failed to start", "error", err)
			status = 1 << 8
			orDefault(&e.died, &termination{
				state: mesos.TASK_FAILED, reason: mesos.REASON_EXECUTOR_TERMINATED, message: failed.Error(),
			})
		} else {
			log.Warn("container failed to start", "error", err)
			orDefault(&e.died, &termination{
				state: mesos.TASK_FAILED, reason: mesos.REASON_CONTAINER_LAUNCH_FAILED,
				message: "Failed to launch container: " + err.Error(),
			})
		}
		a.terminated(e, status)
		return
	}
	e.container = c
	if e.memory != c.Record().Memory { // raised meanwhile
		a.saveContainer(e)
	}
	a.watch(e)
	if e.doomed || e.state == executorTerminating {
		a.destroy(e)
	}
}

// watch waits for the executor's end, then for that of all it has left behind.
func (a *Agent) watch(e *executorRun) {
	c := e.container
	a.work.Go(func() {
		select {
		case <-a.ctx.Done():
			return
		case <-c.Done():
		}
		if err := c.Kill(); err != nil {
			a.log.Error("container is not empty", "container", e.containerID, "error", err)
		}
		a.box.post(func() { a.terminated(e, c.Status()) })
	})
}

// destroy kills a container, or ends its launch. Its end is told to terminated.
func (a *Agent) destroy(e *executorRun) {
	e.doomed = true
	e.cancel()
	if c := e.container; c != nil {
		a.work.Go(func() {
			if err := c.Kill(); err != nil {
				a.log.Error("container cannot be killed", "container", e.containerID, "error", err)
			}
		})
	}
}

func (a *Agent) registrationTimeout(e *executorRun) {
	if e.state != executorRegistering {
		return
	}
	a.log.Warn("executor did not subscribe in time", "framework", e.framework.Value, "executor", e.id().Value)
	a.destroy(e)
	e.state = executorTerminating
	e.died = &termination{
		state: mesos.TASK_FAILED, reason: mesos.REASON_EXECUTOR_REGISTRATION_TIMEOUT,
		message: "Executor did not register within " + duration(a.cfg.ExecutorRegistrationTimeout),
	}
}

// environment is what the executor sees, the user's own last (slave.cpp:
// executorEnvironment, and the containerizer). Of the agent's own only PATH is
// passed on.
func (a *Agent) environment(f *framework, e *executorRun) []string {
	checkpoint := f.info.GetCheckpoint()
	grace := a.cfg.ExecutorShutdownGracePeriod
	if p := e.info.ShutdownGracePeriod; p != nil {
		grace = time.Duration(p.Nanoseconds)
	}
	flag := map[bool]string{true: "1", false: "0"}
	env := []string{
		"PATH=" + os.Getenv("PATH"),
		"LIBPROCESS_PORT=0",
		"MESOS_FRAMEWORK_ID=" + f.id().Value,
		"MESOS_EXECUTOR_ID=" + e.id().Value,
		"MESOS_DIRECTORY=" + e.directory,
		"MESOS_SANDBOX=" + e.directory,
		"MESOS_SLAVE_ID=" + a.info.ID.Value,
		"MESOS_SLAVE_PID=slave(1)@" + a.addr,
		"MESOS_AGENT_ENDPOINT=" + a.addr,
		"MESOS_CHECKPOINT=" + flag[checkpoint],
		"MESOS_HTTP_COMMAND_EXECUTOR=0",
		"MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD=" + duration(grace),
	}
	if a.cfg.TLS != nil {
		// Mesos' operators set these by --executor_environment_variables.
		env = append(env, "LIBPROCESS_SSL_ENABLED=1", "LIBPROCESS_SSL_VERIFY_SERVER_CERT=1", "LIBPROCESS_SSL_CA_FILE="+a.cfg.TLSCA)
	}
	if ip := os.Getenv("LIBPROCESS_IP"); ip != "" {
		env = append(env, "LIBPROCESS_IP="+ip)
	}
	if checkpoint {
		env = append(env,
			"MESOS_RECOVERY_TIMEOUT="+duration(a.cfg.RecoveryTimeout),
			"MESOS_SUBSCRIPTION_BACKOFF_MAX="+duration(a.cfg.ExecutorReregistrationTimeout))
	}
	if a.tokens.key != nil {
		env = append(env, "MESOS_EXECUTOR_AUTHENTICATION_TOKEN="+a.tokens.issue(e))
	}
	for _, v := range e.info.Command.GetEnvironment().GetVariables() {
		value := v.GetValue()
		if s := v.GetSecret(); s != nil && s.Value != nil {
			value = string(s.Value.Data)
		}
		env = append(env, v.Name+"="+value) // the last of a name counts
	}
	return env
}

// duration writes a duration as Mesos reads it: a whole number of the largest
// unit that fits.
func duration(d time.Duration) string {
	for _, unit := range []struct {
		name string
		size time.Duration
	}{
		{"weeks", 7 * 24 * time.Hour}, {"days", 24 * time.Hour}, {"hrs", time.Hour}, {"mins", time.Minute},
		{"secs", time.Second}, {"ms", time.Millisecond}, {"us", time.Microsecond},
	} {
		if d != 0 && d%unit.size == 0 {
			return strconv.FormatInt(int64(d/unit.size), 10) + unit.name
		}
	}
	return strconv.FormatInt(int64(d), 10) + "ns"
}
