package starter

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/baas-batch/baas/flow"
)

// App is a flow file with the directory that it stands in.
type App struct {
	Flow *flow.Flow
	Dir  string // absolute; holds the files that the steps need
	Path string // of the flow file, relative to Dir
}

// Load reads and checks a flow file; its directory is the app. A file that is not
// there is fs.ErrNotExist; one with mistakes an *InvalidError with all of them.
func Load(file string, catalog flow.Catalog) (*App, error) {
	absolute, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	src, err := readFlowFile(absolute, file)
	if err != nil {
		return nil, err
	}
	app := &App{Path: filepath.Base(absolute)}
	if app.Dir, err = filepath.EvalSymlinks(filepath.Dir(absolute)); err != nil {
		return nil, err
	}
	app.Flow, err = flow.Parse(file, src, flow.Options{Files: os.DirFS(app.Dir), Catalog: catalog})
	if problems, ok := errors.AsType[flow.Problems](err); ok {
		return nil, &InvalidError{Flow: problems}
	}
	return app, err
}

func readFlowFile(absolute, shown string) ([]byte, error) {
	info, err := os.Stat(absolute)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("flow file %s: %w", shown, fs.ErrNotExist)
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("flow file %s: not a regular file", shown)
	case info.Size() > flow.MaxFileSize:
		return nil, fmt.Errorf("flow file %s: %d bytes, the limit is %d", shown, info.Size(), flow.MaxFileSize)
	}
	return os.ReadFile(absolute)
}
