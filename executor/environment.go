package executor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/baas-batch/baas/tasklet"
)

const (
	progressFile   = "progress"
	exitStatusFile = "exit_status"
	// maxVariable is the kernel's limit of one environment string (MAX_ARG_STRLEN).
	maxVariable = 128 << 10
)

// invalidError is a partition that cannot run as described.
type invalidError struct{ reason string }

func (e *invalidError) Error() string { return e.reason }

func invalid(format string, args ...any) error {
	return &invalidError{fmt.Sprintf(format, args...)}
}

// environment builds all that a command sees: nothing of it is the executor's
// own but PATH and LANG, which an image or the agent's operator sets.
func environment(cfg Config, l *tasklet.Launch, p tasklet.Partition, d dirs) ([]string, error) {
	env := make(map[string]string, 20+len(l.Env)+len(p.Env)+len(p.Inputs))
	env["PATH"], env["LANG"], env["HOME"], env["TMPDIR"] = cfg.Path, cfg.Lang, d.work, d.tmp
	for _, variables := range []map[string]string{l.Env, p.Env} {
		for name, value := range variables {
			if name == "" || strings.ContainsAny(name, "=\x00") {
				return nil, invalid("environment variable %q has no allowed name", name)
			}
			env[name] = value
		}
	}
	for _, own := range [...]struct{ name, value string }{
		{tasklet.EnvInputs, d.inputs},
		{tasklet.EnvOutputs, d.outputs},
		{tasklet.EnvCheckpoint, d.checkpoint},
		{tasklet.EnvProgress, filepath.Join(d.state, progressFile)},
		{tasklet.EnvExitStatus, filepath.Join(d.state, exitStatusFile)},
		{tasklet.EnvRun, l.Run},
		{tasklet.EnvStep, l.Step},
		{tasklet.EnvPartition, strconv.Itoa(p.Index)},
		{tasklet.EnvAttempt, strconv.Itoa(l.Attempt)},
		{tasklet.EnvApp, l.App},
		{tasklet.EnvOwner, l.Owner},
	} {
		env[own.name] = own.value
	}
	if l.Fetched {
		env[tasklet.EnvFetched] = filepath.Join(cfg.Sandbox, tasklet.FetchedDir)
	}
	if len(l.Ports) > 0 {
		env[tasklet.EnvPort] = strconv.Itoa(l.Ports[0])
		env[tasklet.EnvPorts] = strings.Trim(fmt.Sprint(l.Ports), "[]")
	}
	inputs := map[string]string{}
	for name, in := range p.Inputs {
		value, err := inputText(name, in, d)
		if err != nil {
			return nil, err
		}
		variable := tasklet.InputVariable(name)
		if other, taken := inputs[variable]; taken {
			return nil, invalid("inputs %q and %q share the variable %s", min(name, other), max(name, other), variable)
		}
		inputs[variable] = name
		env[variable] = value
	}
	delete(env, markerVariable)
	list := make([]string, 0, len(env))
	for name, value := range env {
		if strings.ContainsRune(value, 0) {
			return nil, invalid("the value of %s holds a NUL byte", name)
		}
		if len(name)+len(value)+2 > maxVariable {
			return nil, invalid("the value of %s has %d KB, an environment variable takes 128: pass it as a file", name, len(value)>>10)
		}
		list = append(list, name+"="+value)
	}
	slices.Sort(list)
	return list, nil
}

// inputText gives a string as it is, other JSON as JSON text, files as a path.
func inputText(name string, in tasklet.Input, d dirs) (string, error) {
	if in.List || len(in.Files) > 0 {
		return filepath.Join(d.inputs, name), nil
	}
	raw := bytes.TrimSpace(in.Value)
	if len(raw) == 0 {
		return "", nil
	}
	if raw[0] == '"' {
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return "", invalid("input %q is not JSON: %v", name, err)
		}
		return s, nil
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, raw); err != nil {
		return "", invalid("input %q is not JSON: %v", name, err)
	}
	return compact.String(), nil
}

// commandLine gives what to execute. A relative program is looked up in the work
// directory, where the bundle's files are, then in the command's PATH.
func commandLine(l *tasklet.Launch, work string, env []string) (path string, args []string, err error) {
	if l.Shell != "" {
		return "/bin/sh", []string{"/bin/sh", "-c", l.Shell}, nil
	}
	name := l.Args[0]
	if filepath.IsAbs(name) {
		return name, l.Args, nil
	}
	if inWork := filepath.Join(work, name); executable(inWork) || strings.Contains(name, "/") {
		return inWork, l.Args, nil
	}
	for _, v := range env {
		dirs, isPath := strings.CutPrefix(v, "PATH=")
		if !isPath {
			continue
		}
		for _, dir := range filepath.SplitList(dirs) {
			if path := filepath.Join(dir, name); filepath.IsAbs(path) && executable(path) {
				return path, l.Args, nil
			}
		}
	}
	return "", nil, invalid("no such command: %s is neither a file of the app nor in PATH", name)
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// startError explains why a command could not be started.
func startError(l *tasklet.Launch, path string, err error) error {
	name := path
	if l.Shell == "" {
		name = l.Args[0]
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return invalid("no such command: %s, or its interpreter, is not there", name)
	case errors.Is(err, fs.ErrPermission):
		return invalid("%s cannot be executed: permission denied", name)
	case errors.Is(err, syscall.ENOEXEC):
		return invalid("%s cannot be executed: neither a program for this machine nor a script that begins with #!", name)
	case errors.Is(err, syscall.E2BIG):
		return invalid("arguments and environment together are too large: pass large inputs as files")
	}
	return fmt.Errorf("start of %s: %w", name, err) // such as EAGAIN: the machine's trouble
}
