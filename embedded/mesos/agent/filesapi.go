package agent

import (
	"errors"
	"fmt"
	"mime"
	"net/http"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/baas-batch/baas/embedded/mesos/agent/internal/files"
)

// virtualLog is what Mesos calls the agent's log in /files.
const virtualLog = "/slave/log"

// resolve maps what people ask for to what they may read: the sandboxes below
// the work directory, by their real path or as
// /frameworks/<id>/executors/<id>/runs/<run or latest>, and the agent's log.
// Sandboxes of earlier agents are there until they are collected.
func (a *Agent) resolve(name string) (files.Root, bool) {
	if path.IsAbs(name) && path.Clean(name) == virtualLog && a.cfg.LogFile != "" {
		return files.Root{Real: a.cfg.LogFile}, true
	}
	agents := filepath.Join(a.cfg.WorkDir, "slaves")
	below, ok := files.Below(agents, name)
	if !ok {
		virtual, ok := strings.CutPrefix(name, "/frameworks/")
		if !ok {
			return files.Root{}, false
		}
		below = a.ID().Value + "/frameworks/" + virtual
	}
	// <agent>/frameworks/<id>/executors/<id>/runs/<run>/...
	parts := strings.SplitN(strings.Trim(below, "/"), "/", 8)
	if len(parts) < 7 || parts[1] != "frameworks" || parts[3] != "executors" || parts[5] != "runs" {
		return files.Root{}, false
	}
	for _, part := range parts[:7] {
		if part == "" || part == "." || part == ".." {
			return files.Root{}, false
		}
	}
	root := files.Root{Real: filepath.Join(agents, filepath.Join(parts[:7]...))}
	if len(parts) == 8 {
		root.Rest = parts[7]
	}
	return root, true
}

func filesError(err error) error {
	switch {
	case errors.Is(err, files.ErrNotFound):
		return refuse(http.StatusNotFound, "File not found")
	case errors.Is(err, files.ErrInvalid):
		return refuse(http.StatusBadRequest, "%v", err)
	}
	return err
}

func pathOf(r *http.Request) (string, error) {
	name := r.URL.Query().Get("path")
	if name == "" {
		return "", refuse(http.StatusBadRequest, "Expecting 'path=value' in query.")
	}
	return name, nil
}

// number reads a query parameter of at least -1.
func number(r *http.Request, name string) (int64, error) {
	if !r.URL.Query().Has(name) {
		return -1, nil
	}
	n, err := strconv.ParseInt(r.URL.Query().Get(name), 10, 64)
	if err != nil {
		return 0, refuse(http.StatusBadRequest, "Failed to parse %s: %v.", name, err)
	}
	if n < -1 {
		return 0, refuse(http.StatusBadRequest, "Negative %s provided: %d.", name, n)
	}
	return n, nil
}

func (a *Agent) serveBrowse(w http.ResponseWriter, r *http.Request) {
	name, err := pathOf(r)
	if err != nil {
		fail(w, err)
		return
	}
	list, err := files.Browse(a.resolve, name)
	if err != nil {
		fail(w, filesError(err))
		return
	}
	type entry struct {
		Path  string  `json:"path"`
		Nlink int32   `json:"nlink"`
		Size  uint64  `json:"size"`
		Mtime float64 `json:"mtime"`
		Mode  string  `json:"mode"`
		UID   string  `json:"uid"`
		GID   string  `json:"gid"`
	}
	entries := make([]entry, 0, len(list))
	for _, f := range list {
		entries = append(entries, entry{
			f.Path, f.GetNlink(), f.GetSize_(), float64(f.Mtime.Nanoseconds) / 1e9,
			files.Mode(f.GetMode()), f.GetUID(), f.GetGID(),
		})
	}
	writeJSON(w, entries)
}

// serveRead gives a part of a file. Without an offset, or with -1, it gives no
// data and the file's size as offset; without a length, or with -1, as much as
// one read may give.
func (a *Agent) serveRead(w http.ResponseWriter, r *http.Request) {
	name, err := pathOf(r)
	if err != nil {
		fail(w, err)
		return
	}
	offset, err := number(r, "offset")
	if err != nil {
		fail(w, err)
		return
	}
	length, err := number(r, "length")
	if err != nil {
		fail(w, err)
		return
	}
	from := offset
	if offset == -1 {
		from, length = 0, 0
	}
	size, data, err := files.Read(a.resolve, name, from, length)
	if err != nil {
		fail(w, filesError(err))
		return
	}
	if offset == -1 {
		offset = size
	}
	w.Header().Set("Content-Type", typeJSON)
	_, _ = fmt.Fprintf(w, `{"data":"%s","offset":%d}`, rawString(data), offset)
}

// rawString escapes what JSON demands and passes the rest as it is, as Mesos
// does: a character that is cut between two reads is whole when they are joined.
func rawString(data []byte) []byte {
	out := make([]byte, 0, len(data)+len(data)/16)
	for _, b := range data {
		switch {
		case b == '"' || b == '\\':
			out = append(out, '\\', b)
		case b == '\n':
			out = append(out, '\\', 'n')
		case b == '\t':
			out = append(out, '\\', 't')
		case b < ' ' || b == 0x7f:
			out = fmt.Appendf(out, `\u%04x`, b)
		default:
			out = append(out, b)
		}
	}
	return out
}

func (a *Agent) serveDownload(w http.ResponseWriter, r *http.Request) {
	name, err := pathOf(r)
	if err != nil {
		fail(w, err)
		return
	}
	file, info, err := files.Open(a.resolve, name)
	if err != nil {
		fail(w, filesError(err))
		return
	}
	defer file.Close()
	w.Header().Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": info.Name()}))
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if mime.TypeByExtension(path.Ext(info.Name())) == "" {
		w.Header().Set("Content-Type", "application/octet-stream")
	}
	http.ServeContent(w, r, info.Name(), info.ModTime(), file)
}
