package mesos

import (
	"encoding/json"
	"fmt"
	"path"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"github.com/baas-batch/baas/tasklet"
)

// URI is a file that the agent fetches into the executor's sandbox.
type URI struct {
	URI        string `json:"uri"`
	Name       string `json:"name"` // below tasklet.FetchedDir
	Cache      bool   `json:"cache,omitempty"`
	Executable bool   `json:"executable,omitempty"`
}

// URIs is a list of them in a form that can be compared.
type URIs string

// NewURIs makes the list; the order counts.
func NewURIs(list ...URI) URIs { return URIs(encodeList(list)) }

// encodeList makes a text that can be compared, "" of an empty list.
func encodeList[T URI | Volume](list []T) string {
	if len(list) == 0 {
		return ""
	}
	data, err := json.Marshal(list)
	if err != nil { // strings and booleans
		panic(err)
	}
	return string(data)
}

func decodeList[T URI | Volume](text string) (list []T, err error) {
	if text != "" {
		err = json.Unmarshal([]byte(text), &list)
	}
	return list, err
}

// uris describes the files for a CommandInfo. Nothing is unpacked: Mesos would do
// it beside the executor's own files.
func (f URIs) uris() ([]mesos.CommandInfo_URI, error) {
	list, err := decodeList[URI](string(f))
	if err != nil {
		return nil, fmt.Errorf("files to fetch: %w", err)
	}
	uris := make([]mesos.CommandInfo_URI, 0, len(list))
	for _, one := range list {
		if one.Name == "" || one.Name != path.Base(one.Name) || one.Name == ".." || one.Name == "." {
			return nil, fmt.Errorf("files to fetch: %q is no file name", one.Name)
		}
		uris = append(uris, mesos.CommandInfo_URI{
			Value: one.URI, Cache: ptr(one.Cache), Executable: ptr(one.Executable), Extract: ptr(false),
			OutputFile: ptr(path.Join(tasklet.FetchedDir, one.Name)),
		})
	}
	return uris, nil
}
