package master

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/maintenance"
	"github.com/mesos/mesos-go/api/v1/lib/quota"
)

// Limits of the registry's lists of unreachable and gone agents (Mesos'
// --registry_max_agent_age and --registry_max_agent_count).
const (
	maxAgentAge   = 14 * 24 * time.Hour
	maxAgentCount = 102400
)

// ErrDemoted tells a master that another one was elected after it.
var ErrDemoted = errors.New("master: another master has taken the registry over")

// Registry is what outlives a master: nothing about tasks or frameworks. It
// stands for the replicated log of Mesos: only the master that was elected last
// may write.
type Registry struct {
	store store

	mu   sync.Mutex
	term int // counts the elections
}

// OpenRegistry is a registry in a file, in memory if path is "".
func OpenRegistry(path string) *Registry { return &Registry{store: fileStore(path)} }

// take gives the registry to a new leader.
func (r *Registry) take() (term int, data []byte, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	data, err = r.store.load()
	r.term++
	return r.term, data, err
}

func (r *Registry) write(term int, data []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if term != r.term {
		return ErrDemoted
	}
	return r.store.save(data)
}

// registry is a leading master's hold of the Registry. It is written before an
// agent learns of its admission, so that no later master meets an admitted agent
// that it does not know.
type registry struct {
	shared  *Registry
	demoted func() // called when the hold is found to be lost
	term    int
	content registryContent
}

type registryContent struct {
	Master      mesos.MasterInfo  `json:"master"` // the last that led
	Agents      []mesos.AgentInfo `json:"agents"`
	Unreachable []agentTime       `json:"unreachable"`
	Gone        []agentTime       `json:"gone"`

	Quotas   []quota.QuotaConfig  `json:"quotas,omitempty"`
	Weights  []mesos.WeightInfo   `json:"weights,omitempty"`
	Schedule []maintenance.Window `json:"schedule,omitempty"`
	Down     []mesos.MachineID    `json:"down,omitempty"`   // machines in maintenance
	Closed   []closedAgent        `json:"closed,omitempty"` // agents drained or deactivated
}

type agentTime struct {
	ID   string         `json:"id"`
	Time mesos.TimeInfo `json:"time"`
}

// store keeps the registry's bytes. Load answers nil if there are none.
type store struct {
	load func() ([]byte, error)
	save func([]byte) error
}

// fileStore replaces a file atomically; "" keeps the bytes in memory.
func fileStore(path string) store {
	if path == "" {
		var kept []byte
		return store{
			load: func() ([]byte, error) { return kept, nil },
			save: func(data []byte) error { kept = data; return nil },
		}
	}
	return store{
		load: func() ([]byte, error) {
			data, err := os.ReadFile(path)
			if errors.Is(err, fs.ErrNotExist) {
				return nil, nil
			}
			return data, err
		},
		save: func(data []byte) error { return replaceFile(path, data) },
	}
}

func replaceFile(path string, data []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // fails once renamed
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// recover reads the registry and notes in it that the given master leads now.
func (r *registry) recover(info mesos.MasterInfo) (registryContent, error) {
	term, data, err := r.shared.take()
	if err != nil {
		return registryContent{}, fmt.Errorf("read registry: %w", err)
	}
	r.term = term
	if data != nil {
		if err := json.Unmarshal(data, &r.content); err != nil {
			return registryContent{}, fmt.Errorf("read registry: %w", err)
		}
	}
	r.content.Master = info
	return r.content, r.save()
}

func (r *registry) save() error {
	r.content.Unreachable = prune(r.content.Unreachable)
	r.content.Gone = prune(r.content.Gone)
	data, err := json.MarshalIndent(r.content, "", "  ")
	if err != nil {
		return fmt.Errorf("write registry: %w", err)
	}
	err = r.shared.write(r.term, data)
	if errors.Is(err, ErrDemoted) {
		r.demoted()
	}
	if err != nil {
		return fmt.Errorf("write registry: %w", err)
	}
	return nil
}

// admit notes an agent as registered, whatever it was before. If that cannot be
// written the agent must not be told.
func (r *registry) admit(info mesos.AgentInfo) error {
	old := r.content
	r.content.Agents = append(dropInfo(r.content.Agents, info.ID.Value), info)
	r.content.Unreachable = dropTime(r.content.Unreachable, info.ID.Value)
	if err := r.save(); err != nil {
		r.content = old
		return err
	}
	return nil
}

func (r *registry) remove(id string) error {
	r.content.Agents = dropInfo(r.content.Agents, id)
	return r.save()
}

func (r *registry) markUnreachable(id string, t mesos.TimeInfo) error {
	r.content.Agents = dropInfo(r.content.Agents, id)
	r.content.Unreachable = append(dropTime(r.content.Unreachable, id), agentTime{id, t})
	return r.save()
}

func (r *registry) markGone(id string, t mesos.TimeInfo) error {
	r.content.Agents = dropInfo(r.content.Agents, id)
	r.content.Unreachable = dropTime(r.content.Unreachable, id)
	r.content.Gone = append(dropTime(r.content.Gone, id), agentTime{id, t})
	return r.save()
}

// change writes a changed content, or leaves it as it was.
func (r *registry) change(f func(*registryContent)) error {
	old := r.content
	f(&r.content)
	if err := r.save(); err != nil {
		r.content = old
		return err
	}
	return nil
}

func (r *registry) setQuotas(list []quota.QuotaConfig) error {
	return r.change(func(c *registryContent) { c.Quotas = list })
}

func (r *registry) setWeights(list []mesos.WeightInfo) error {
	return r.change(func(c *registryContent) { c.Weights = list })
}

func (c *registryContent) agents() map[string]mesos.AgentInfo {
	out := make(map[string]mesos.AgentInfo, len(c.Agents))
	for _, info := range c.Agents {
		out[info.GetID().GetValue()] = info
	}
	return out
}

func timesOf(list []agentTime) map[string]mesos.TimeInfo {
	out := make(map[string]mesos.TimeInfo, len(list))
	for _, at := range list {
		out[at.ID] = at.Time
	}
	return out
}

func dropInfo(list []mesos.AgentInfo, id string) []mesos.AgentInfo {
	return slices.DeleteFunc(slices.Clone(list), func(i mesos.AgentInfo) bool { return i.GetID().GetValue() == id })
}

func dropTime(list []agentTime, id string) []agentTime {
	return slices.DeleteFunc(slices.Clone(list), func(a agentTime) bool { return a.ID == id })
}

func prune(list []agentTime) []agentTime {
	oldest := time.Now().Add(-maxAgentAge).UnixNano()
	list = slices.DeleteFunc(slices.Clone(list), func(a agentTime) bool { return a.Time.Nanoseconds < oldest })
	return list[max(0, len(list)-maxAgentCount):]
}
