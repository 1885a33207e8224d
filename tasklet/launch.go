package tasklet

import (
	"encoding/json"
	"time"
)

// WireVersion is raised when launch data changes in a way that an older
// executor would misread. The executor's binary is part of its ExecutorID, so
// the two sides always match; the number is a guard against a wrong deployment.
const WireVersion = 1

// Launch is the launch data of one Mesos task (TaskInfo.data, as JSON): one or
// many partitions of one step, run one after the other in list order.
type Launch struct {
	Version int    `json:"v"`
	TaskID  string `json:"task"`
	Owner   string `json:"owner"`
	App     string `json:"app"`
	Run     string `json:"run"`
	Step    string `json:"step"`
	Attempt int    `json:"attempt"` // counts the user's failures, from 1

	// User to run as where the agent runs as root: a name of the agent's user
	// database or "uid[:gid]", never root. Empty: a throw-away user per partition.
	User string `json:"user,omitempty"`

	// Command is run by /bin/sh -c when Shell is set, else Args is executed as
	// it stands. Exactly one of the two is set. A relative Args[0] is looked up
	// in the bundle, then in PATH.
	Shell string   `json:"shell,omitempty"`
	Args  []string `json:"args,omitempty"`

	Env     map[string]string `json:"env,omitempty"`
	Outputs []Output          `json:"outputs,omitempty"`
	Limits  Limits            `json:"limits"`
	// Ports of the agent that the task may listen on; its partitions share them.
	Ports []int `json:"ports,omitempty"`

	// Fetched tells that the agent has fetched files into the sandbox.
	Fetched bool `json:"fetched,omitempty"`

	// Secrets that the command gets, without their values and refs: agents keep
	// launch data on disk. The executor asks for the values.
	Secrets []Secret `json:"secrets,omitempty"`

	// Bundle holds the app's files (tar, zstd or gzip by its magic number),
	// unpacked once per executor; nil when the step needs none.
	Bundle *Source `json:"bundle,omitempty"`

	// Inputs that all partitions have in common.
	Inputs     map[string]Input `json:"in,omitempty"`
	Partitions []Partition      `json:"partitions"`

	// Result is where the result object goes. It is the last upload, before the
	// terminal status is sent. Unset with Segments.
	Result Target `json:"result,omitzero"`
	// Segments has results committed in groups while the task runs.
	Segments *Segments `json:"segments,omitempty"`
}

// Segments tells how results are committed in groups. A group is one object: the
// logs and file outputs of some partitions, and then their Results, as lines.Writer
// writes them. Objects over MaxInSegment have a key of their own, which the executor
// asks for (RoleLog, RoleOutput), as it does for checkpoints.
//
// The executor stores a segment, tells of it in a RUNNING update, and stores the next
// one when that update is acknowledged, or with the terminal update.
type Segments struct {
	// Targets of the first segments. For those that follow the executor asks with
	// RoleSegment.
	Targets []Target      `json:"targets"`
	Every   time.Duration `json:"every"` // least time between two segments, but for the last
	Size    int64         `json:"size"`  // bytes that wait, from where on a segment is due
}

// MaxInSegment is the size in bytes up to which a log or an output goes into a
// segment.
const MaxInSegment = 4 << 20

// Partition is one process to run. With Launch.Segments it has no targets.
type Partition struct {
	Index  int               `json:"i"`
	Inputs map[string]Input  `json:"in,omitempty"`
	Env    map[string]string `json:"env,omitempty"` // on top of Launch.Env

	// Log takes stdout and stderr together.
	Log Target `json:"log,omitzero"`
	// Restore is the last saved checkpoint, if there is one.
	Restore *Source `json:"restore,omitempty"`
	// Checkpoint is where a checkpoint is saved; each save overwrites the last.
	Checkpoint Target `json:"ckpt,omitzero"`
	// Outputs has a target for each declared output that is made of files.
	Outputs map[string]Target `json:"out,omitempty"`
}

// Input is one input: a value, a file, or a list of files.
type Input struct {
	// Value is any JSON value; unset when Files are given.
	Value json.RawMessage `json:"value,omitempty"`
	// Files to fetch. With List false there is exactly one, staged as
	// BAAS_INPUTS/<name>; with List true they are staged in the directory
	// BAAS_INPUTS/<name>/, with their position in five digits before their names:
	// 00000-a.csv, 00001-b.csv. One that refers to a directory is staged as one.
	Files []Source `json:"files,omitempty"`
	List  bool     `json:"list,omitempty"`
}

// Source is something in storage that the executor may read.
type Source struct {
	FileRef
	URL string `json:"url"` // signed GET; take FileRef's range of it
}

// Target is a place in storage that the executor may write, whole, by one PUT.
// Beyond MaxSinglePut, the executor asks for a multipart upload instead.
type Target struct {
	Key string `json:"key"`
	URL string `json:"url"` // signed PUT
	// Header is signed with the URL, and sent with it.
	Header map[string]string `json:"header,omitempty"`
}

// MaxSinglePut is the size in bytes up to which an object goes up in one PUT.
const MaxSinglePut = 64 << 20

// Limits of one partition. Zero means unlimited, but for Grace.
type Limits struct {
	Memory  int64         `json:"mem,omitempty"`     // bytes, over the process tree
	Disk    int64         `json:"disk,omitempty"`    // bytes, of work directory and outputs
	Timeout time.Duration `json:"timeout,omitempty"` // wall time of the command
	Grace   time.Duration `json:"grace"`             // from SIGTERM to SIGKILL
	Log     int64         `json:"log,omitempty"`     // bytes kept of the log: head and tail
}

// OutputType is the type of a declared output.
type OutputType string

// The output types. Values come from outputs.json or from a file of the output's
// name; File is that file itself; Files is a directory of that name, taken as a
// list of its regular files in name order; Directory is a directory of that name
// with all that is in it.
const (
	TypeString    OutputType = "string"
	TypeInt       OutputType = "int"
	TypeFloat     OutputType = "float"
	TypeBool      OutputType = "bool"
	TypeDuration  OutputType = "duration"
	TypeList      OutputType = "list"
	TypeMap       OutputType = "map"
	TypeFile      OutputType = "file"
	TypeFiles     OutputType = "files"
	TypeDirectory OutputType = "directory"
)

// IsFile tells whether the output goes to storage rather than inline.
func (t OutputType) IsFile() bool { return t == TypeFile || t == TypeFiles || t == TypeDirectory }

// Output declares one output of a step.
type Output struct {
	Name     string     `json:"name"`
	Type     OutputType `json:"type"`
	Optional bool       `json:"optional,omitempty"`
	// Compress is EncodingZstd for a TypeFile that is stored compressed.
	Compress string `json:"compress,omitempty"`
}

// FileRefTag marks a FileRef inside JSON values, where it stands beside plain maps.
const FileRefTag = "file"

// FileRef refers to bytes in storage. Several refs may share one object.
type FileRef struct {
	Tag    string `json:"$type"` // FileRefTag
	Key    string `json:"key"`
	Offset int64  `json:"offset,omitempty"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"` // of exactly these bytes, hex
	Name   string `json:"name"`   // base name for staging and download

	// Form is set when the bytes stand for a directory.
	Form Form `json:"form,omitempty"`
	// Bytes of a directory's files together. Those of a tree lie in the object
	// right before the manifest that the reference is to.
	Bytes int64 `json:"bytes,omitempty"`

	// Packed is set when the object holds the bytes compressed: Size and SHA256 are
	// then those of the content, and Offset is 0.
	Packed Packed `json:"packed,omitzero"`
}

// Packed is the object of a compressed file.
type Packed struct {
	Encoding string `json:"encoding"` // EncodingZstd
	Size     int64  `json:"size"`     // bytes
	SHA256   string `json:"sha256"`
}

// EncodingZstd is zstd, RFC 8878.
const EncodingZstd = "zstd"

// IsPacked tells whether the object holds the bytes compressed.
func (r FileRef) IsPacked() bool { return r.Packed != Packed{} }

// Form is how a directory is stored; that of a file is "".
type Form string

// The forms of a directory.
const (
	FormArchive Form = "archive" // tar in zstd
	FormTree    Form = "tree"    // a manifest, see tree.ReadManifest
)

// IsDirectory tells whether the reference is to a directory.
func (r FileRef) IsDirectory() bool { return r.Form != "" }

// Stored is the number of bytes of the object that the reference stands for.
func (r FileRef) Stored() int64 {
	switch {
	case r.Form == FormTree:
		return r.Size + r.Bytes
	case r.IsPacked():
		return r.Packed.Size
	}
	return r.Size
}

// Content is the range of a tree's object that holds its files.
func (r FileRef) Content() (offset, size int64) { return r.Offset - r.Bytes, r.Bytes }

// NewFileRef sets the tag.
func NewFileRef(key string, size int64, sha256, name string) FileRef {
	return FileRef{Tag: FileRefTag, Key: key, Size: size, SHA256: sha256, Name: name}
}

// LinesRef refers to an object of JSON values in order: see tasklet/lines.
type LinesRef struct {
	Key  string `json:"key"`
	Size int64  `json:"size"` // bytes of the object
	N    int    `json:"n"`    // values
}
