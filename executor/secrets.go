package executor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/baas-batch/baas/tasklet"
	"github.com/baas-batch/baas/tasklet/tree"
)

// secrets are the values that a partition's command gets. They are in memory, in
// the command's environment and in its files alone.
type secrets struct {
	list   []tasklet.Secret
	values map[string][]byte
	dir    string // of the files; "" when there are none
	files  []secretFile
}

// secretFile is kept open, so that it is wiped whatever its path leads to by then.
type secretFile struct {
	file *os.File
	size int
}

// secretValues asks the leader for a task's secrets, once for all partitions.
func (t *task) secretValues(ctx context.Context, partition int) (map[string][]byte, error) {
	if t.secrets != nil {
		return t.secrets, nil
	}
	key, err := tasklet.NewSecretKey()
	if err != nil {
		return nil, err
	}
	id := t.launch.TaskID
	g, err := t.x.broker.ask(ctx, t.x.cfg.Tuning, id, tasklet.Request{
		Partition: partition, Role: tasklet.RoleSecrets, Key: key.Public(),
	})
	var denied *deniedError
	if errors.As(err, &denied) {
		return nil, &invalidError{denied.reason}
	}
	if err != nil {
		return nil, err
	}
	values, err := key.Open(id, g.Sealed)
	if err != nil {
		return nil, err
	}
	for _, s := range t.launch.Secrets {
		switch value, ok := values[s.Name]; {
		case !ok:
			return nil, fmt.Errorf("the leader's answer has no secret %s", s.Name)
		case s.File:
		case bytes.IndexByte(value, 0) >= 0:
			return nil, invalid("the secret %s holds a NUL byte: take it as a file", s.Name)
		case len(s.Name)+len(value)+2 > maxVariable:
			return nil, invalid("the secret %s has %d KB, an environment variable takes 128: take it as a file", s.Name, len(value)>>10)
		}
	}
	t.secrets = values
	return values, nil
}

// takeSecrets gets the partition's secrets and writes those that are files.
func (p *partition) takeSecrets() error {
	list := p.task.launch.Secrets
	if len(list) == 0 {
		return nil
	}
	values, err := p.task.secretValues(p.ctx, p.spec.Index)
	if err != nil {
		return fmt.Errorf("secrets: %w", err)
	}
	p.redactor = newRedactor(values)
	p.secrets = &secrets{list: list, values: values}
	p.release = append(p.release, p.wipeSecrets)
	if err := p.secrets.write(p.task.x.box, p.user); err != nil {
		return &localError{err}
	}
	return nil
}

// write makes the files. Their directory is the executor's own: a task cannot put
// something else in their place.
func (s *secrets) write(box *sandbox, u user) (err error) {
	if !slices.ContainsFunc(s.list, func(one tasklet.Secret) bool { return one.File }) {
		return nil
	}
	if s.dir, err = box.secretsDir(); err != nil {
		return err
	}
	for _, one := range s.list {
		if !one.File {
			continue
		}
		f, err := os.OpenFile(filepath.Join(s.dir, one.Name), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o400)
		if err != nil {
			return err
		}
		value := s.values[one.Name]
		s.files = append(s.files, secretFile{f, len(value)})
		if _, err := f.Write(value); err != nil {
			return err
		}
		if err := errors.Join(f.Chmod(0o400), u.give(f.Name())); err != nil {
			return err
		}
	}
	return nil
}

// environment puts the secrets over a command's other variables.
func (s *secrets) environment(env []string) []string {
	if s == nil {
		return env
	}
	set := map[string]string{}
	if s.dir != "" {
		set[tasklet.EnvSecrets] = s.dir
	}
	for _, one := range s.list {
		if one.File {
			set[one.Name] = filepath.Join(s.dir, one.Name)
		} else {
			set[one.Name] = string(s.values[one.Name])
		}
	}
	env = slices.DeleteFunc(env, func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		_, again := set[name]
		return again
	})
	for name, value := range set {
		env = append(env, name+"="+value)
	}
	slices.Sort(env)
	return env
}

// wipeSecrets overwrites and removes the files when the command is gone. It may be
// called again.
func (p *partition) wipeSecrets() {
	if p.secrets == nil {
		return
	}
	for _, f := range p.secrets.files {
		_, err := f.file.WriteAt(make([]byte, f.size), 0)
		if err := errors.Join(err, f.file.Sync(), f.file.Truncate(0), f.file.Close()); err != nil {
			p.task.x.log.Warn("secret not wiped", "task", p.task.launch.TaskID, "error", err)
		}
	}
	p.secrets.files = nil
	if p.secrets.dir != "" {
		if err := tree.Remove(p.secrets.dir); err != nil {
			p.task.x.log.Warn("secrets not removed", "task", p.task.launch.TaskID, "error", err)
		}
		p.secrets.dir = ""
	}
}

// forgetSecrets overwrites the values in memory when the task has ended. What went
// into environments was copied, which Go does not let us overwrite.
func (t *task) forgetSecrets() {
	for _, v := range t.secrets {
		clear(v)
	}
	t.secrets = nil
}

// errSecretOutput refuses an output that would carry a secret into the history.
func errSecretOutput(where string) error {
	return badOutput("%s holds the value of a secret: outputs are kept in the run's history, where anybody may read them", where)
}

// secretOutputs looks for secrets in what will be output values, before any of it
// stands in an error message.
func (r *redactor) secretOutputs(declared []tasklet.Output, dir string, u user) error {
	if r == nil {
		return nil
	}
	if data, err := readSmall(dir, tasklet.OutputsFile, u, 2*maxValues); err == nil && r.findsJSON(data) {
		return errSecretOutput(tasklet.OutputsFile)
	}
	for _, o := range declared {
		if o.Type.IsFile() {
			continue
		}
		if data, err := readSmall(dir, o.Name, u, maxValues); err == nil && r.findsJSON(data) {
			return errSecretOutput(fmt.Sprintf("output %q", o.Name))
		}
	}
	return nil
}

// findsJSON looks in a text and, if it is JSON, in what its escapes mean.
func (r *redactor) findsJSON(data []byte) bool {
	if r.finds(data) {
		return true
	}
	var v any
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	return decoder.Decode(&v) == nil && r.findsIn(v)
}

func (r *redactor) findsIn(v any) bool {
	switch v := v.(type) {
	case string:
		return r.finds([]byte(v))
	case []any:
		return slices.ContainsFunc(v, r.findsIn)
	case map[string]any:
		for name, value := range v {
			if r.finds([]byte(name)) || r.findsIn(value) {
				return true
			}
		}
	}
	return false
}

// checkSecrets checks the names, which become files and variables.
func checkSecrets(l *tasklet.Launch) error {
	seen := map[string]bool{}
	for _, s := range l.Secrets {
		if !safeName(s.Name) || strings.Contains(s.Name, "=") || strings.HasPrefix(s.Name, "BAAS_") || seen[s.Name] {
			return fmt.Errorf("secret name %q is not allowed or occurs twice", s.Name)
		}
		seen[s.Name] = true
	}
	return nil
}
