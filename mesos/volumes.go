package mesos

import (
	"fmt"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
)

// Volume is a directory or file of the agent that stands in a container.
type Volume struct {
	Host  string `json:"host"` // absolute, on the agent
	Path  string `json:"path"` // absolute, in the container
	Write bool   `json:"write,omitempty"`
}

// Volumes is a list of them in a form that can be compared.
type Volumes string

// NewVolumes makes the list; the order counts.
func NewVolumes(list ...Volume) Volumes { return Volumes(encodeList(list)) }

// list describes them for a ContainerInfo.
func (v Volumes) list() ([]mesos.Volume, error) {
	list, err := decodeList[Volume](string(v))
	if err != nil {
		return nil, fmt.Errorf("volumes: %w", err)
	}
	out := make([]mesos.Volume, len(list))
	for i, one := range list {
		mode := mesos.RO
		if one.Write {
			mode = mesos.RW
		}
		out[i] = mesos.Volume{Mode: mode.Enum(), HostPath: &one.Host, ContainerPath: one.Path}
	}
	return out, nil
}
