package tasklet

// Report is a framework message from executor to leader. Messages may be lost
// without a word (Mesos promises nothing), so nothing rests on a Report:
// progress is repeated, requests are repeated until a Grant comes.
type Report struct {
	TaskID   string     `json:"task"`
	Progress []Progress `json:"progress,omitempty"`
	Request  *Request   `json:"request,omitempty"`
}

// Progress of one partition, as its tasklet wrote it to BAAS_PROGRESS.
type Progress struct {
	Partition int     `json:"i"`
	Done      float64 `json:"done"`
	Total     float64 `json:"total,omitempty"`
	Message   string  `json:"message,omitempty"` // at most 200 bytes
}

// Request asks the leader for signed URLs. It names a role, never a key: the
// leader derives the key from its own table.
type Request struct {
	ID        string `json:"id"` // chosen by the executor; the Grant repeats it
	Partition int    `json:"i"`
	Role      Role   `json:"role"`
	Name      string `json:"name,omitempty"` // of the output or input
	File      int    `json:"file,omitempty"` // index in Input.Files

	// Key is the public key that secrets are sealed with, for RoleSecrets.
	Key []byte `json:"key,omitempty"`

	// Multipart is set for objects over MaxSinglePut.
	Multipart *Multipart `json:"multipart,omitempty"`
}

// Role is what an object is to a task.
type Role string

const (
	RoleBundle     Role = "bundle"     // GET
	RoleInput      Role = "input"      // GET
	RoleRestore    Role = "restore"    // GET
	RoleOutput     Role = "output"     // PUT
	RoleLog        Role = "log"        // PUT
	RoleCheckpoint Role = "checkpoint" // PUT
	RoleResult     Role = "result"     // PUT
	RoleSegment    Role = "segment"    // PUT; File is the segment's number, from 0
	// RoleSecrets asks for the values of Launch.Secrets instead of a URL.
	RoleSecrets Role = "secrets"
)

// Multipart moves one upload on by one move. All moves may be repeated.
type Multipart struct {
	// Begin asks for a new upload; the Grant carries UploadID and PartSize.
	Begin bool  `json:"begin,omitempty"`
	Size  int64 `json:"size,omitempty"` // with Begin: expected bytes, 0 if not known

	UploadID string `json:"upload,omitempty"`
	// Sign asks for PUT URLs of these part numbers (from 1).
	Sign []int `json:"sign,omitempty"`
	// Complete lists all parts in order and asks to make the object visible.
	Complete []Part `json:"complete,omitempty"`
	// Abort throws the upload away.
	Abort bool `json:"abort,omitempty"`
}

// Part is one uploaded part: its number and the ETag that the store answered.
type Part struct {
	Number int    `json:"n"`
	ETag   string `json:"etag"`
}

// Order is a framework message from leader to executor.
type Order struct {
	TaskID string `json:"task"`
	Grant  *Grant `json:"grant,omitempty"`
	// Kill ends single partitions of the task: SIGTERM, grace, SIGKILL. It is
	// repeated by the leader until their results come.
	Kill []int `json:"kill,omitempty"`
}

// Grant answers a Request.
type Grant struct {
	ID       string         `json:"id"`
	Key      string         `json:"key,omitempty"` // of the object, where the task may write it
	URL      string         `json:"url,omitempty"`
	UploadID string         `json:"upload,omitempty"`
	PartSize int64          `json:"part_size,omitempty"` // bytes; all parts but the last
	Parts    map[int]string `json:"parts,omitempty"`     // URL by part number
	// Header is signed with URL, or with each of Parts, and sent with it.
	Header map[string]string `json:"header,omitempty"`
	Done   bool              `json:"done,omitempty"` // Complete or Abort took effect
	// Sealed holds the values of Launch.Secrets, see SealSecrets.
	Sealed []byte `json:"sealed,omitempty"`
	// Error is final for this request: what was asked for cannot be had.
	Error string `json:"error,omitempty"`
}
