package local

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/baas-batch/baas/storage"
)

// ExecutorName is the file name of the executor's binary.
const ExecutorName = "baas-executor"

// BuildHint tells how to get the executor.
const BuildHint = "build both programs with: CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o bin/ ./cmd/..."

// FindExecutor gives the path of the executor's binary: the one asked for, else
// the one beside this program.
func FindExecutor(asked string) (string, error) {
	name := asked
	if name == "" {
		self, err := os.Executable()
		if err != nil {
			return "", err
		}
		if self, err = filepath.EvalSymlinks(self); err != nil {
			return "", err
		}
		name = filepath.Join(filepath.Dir(self), ExecutorName)
	}
	info, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist) && asked == "":
		return "", fmt.Errorf("there is no %s beside this program (%s); name it with BAAS_EXECUTOR, or %s", ExecutorName, name, BuildHint)
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("executor %s does not exist; %s", name, BuildHint)
	case err != nil:
		return "", err
	case !info.Mode().IsRegular() || info.Mode()&0o111 == 0:
		return "", fmt.Errorf("executor %s is not an executable file; %s", name, BuildHint)
	}
	return filepath.Abs(name)
}

// HashExecutor gives the SHA-256 of a binary, in hex.
func HashExecutor(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	digest := storage.NewDigest()
	if _, err := io.Copy(digest, f); err != nil {
		return "", err
	}
	return digest.SHA256(), nil
}
