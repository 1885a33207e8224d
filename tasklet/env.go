package tasklet

import "strings"

// What a tasklet sees in its environment.
const (
	EnvInputPrefix = "BAAS_INPUT_"      // BAAS_INPUT_<NAME>: a value as text, or the path of a staged file or directory
	EnvInputs      = "BAAS_INPUTS"      // directory of staged input files
	EnvOutputs     = "BAAS_OUTPUTS"     // directory to write outputs to: a file per name, or outputs.json for values
	EnvCheckpoint  = "BAAS_CHECKPOINT"  // directory, restored before a re-run
	EnvProgress    = "BAAS_PROGRESS"    // file to write "done/total message" to
	EnvExitStatus  = "BAAS_EXIT_STATUS" // file that may name an exit status other than the default
	EnvRun         = "BAAS_RUN"
	EnvStep        = "BAAS_STEP"
	EnvPartition   = "BAAS_PARTITION" // index from 0
	EnvAttempt     = "BAAS_ATTEMPT"   // from 1
	EnvPort        = "BAAS_PORT"      // the first of BAAS_PORTS; both only where the step asks for ports
	EnvPorts       = "BAAS_PORTS"     // the ports that it may listen on, separated by spaces
	EnvApp         = "BAAS_APP"
	EnvOwner       = "BAAS_OWNER"
	EnvFetched     = "BAAS_FETCHED" // directory of what the step has the agent fetch
)

// EnvStorageCA is in the environment of an executor, not of its tasks: PEM of the
// authorities that signed URLs need beside those that the system trusts.
const EnvStorageCA = "BAAS_STORAGE_CA"

// EnvCacheSize, in the environment of an executor, bounds the copies of files that
// it keeps for later tasks: bytes, 0 for none. Not set: it looks at the disk.
const EnvCacheSize = "BAAS_CACHE_SIZE"

const (
	// CommitFile, inside BAAS_CHECKPOINT, names the closed subdirectory that is
	// the checkpoint. It is replaced by rename, so that it is never half written.
	CommitFile = "commit"
	// OutputsFile, inside BAAS_OUTPUTS, is a JSON object of output values.
	OutputsFile = "outputs.json"
	// FetchedDir, in the sandbox of the executor, is BAAS_FETCHED.
	FetchedDir = "fetched"
)

// InputVariable gives the environment variable of an input: upper case, with
// everything but letters and digits as underscore.
func InputVariable(name string) string {
	return EnvInputPrefix + strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, name)
}
