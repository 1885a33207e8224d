package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
	"go.temporal.io/server/common/config"
	sqliteplugin "go.temporal.io/server/common/persistence/sql/sqlplugin/sqlite"
	"go.temporal.io/server/schema/sqlite"
	"google.golang.org/protobuf/types/known/durationpb"
)

const (
	databaseFile = "temporal.db"
	// schemaFile is written when the schema is complete, and names its version:
	// a database without it was cut short while it was made, and never served.
	schemaFile = "temporal.schema"
)

// database says where the server's SQLite database is.
type database struct {
	file string // "" for memory
	name string // in memory
}

// openDatabase makes the database with its schema and namespace if it is not there.
func openDatabase(c TemporalConfig) (database, error) {
	db := database{name: "baas-" + uuid.NewString()}
	if c.DataDir != "" {
		dir, err := filepath.Abs(c.DataDir)
		if err != nil {
			return database{}, err
		}
		db = database{file: filepath.Join(dir, databaseFile)}
		if err := db.ensureSchema(dir); err != nil {
			return database{}, err
		}
	}
	namespace, err := sqlite.NewNamespaceConfig(clusterName, c.Namespace, false, searchAttributes())
	if err != nil {
		return database{}, err
	}
	namespace.Detail.Config.Retention = durationpb.New(Retention)
	if err := sqlite.CreateNamespaces(db.sql(), namespace); err != nil {
		return database{}, fmt.Errorf("namespace %s: %w", c.Namespace, err)
	}
	return db, nil
}

func (db database) ensureSchema(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	marker := filepath.Join(dir, schemaFile)
	have, err := os.ReadFile(marker)
	switch {
	case err == nil && strings.TrimSpace(string(have)) == schemaVersion():
		return nil
	case err == nil:
		return fmt.Errorf("%s has schema version %s, this program needs %s: use another data directory, or the program that made it",
			db.file, strings.TrimSpace(string(have)), schemaVersion())
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
		if err := os.Remove(db.file + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := sqlite.SetupSchema(db.sql()); err != nil {
		return fmt.Errorf("%s: %w", db.file, err)
	}
	return writeDurably(marker, schemaVersion()+"\n")
}

func schemaVersion() string {
	return sqlite.Version + "/" + sqlite.VisibilityVersion
}

// writeDurably makes a small file appear whole or not at all.
func writeDurably(name, content string) error {
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(content)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

// sql gives the connection. It is made anew for each use because the server
// keeps and changes it.
//
// Temporal uses one connection at a time. The pragmas name their values as
// SQLite's documentation does (https://www.sqlite.org/pragma.html).
func (db database) sql() *config.SQL {
	if db.file == "" {
		return &config.SQL{
			PluginName:        sqliteplugin.PluginName,
			DatabaseName:      db.name,
			ConnectAttributes: map[string]string{"mode": "memory", "cache": "shared"},
		}
	}
	return &config.SQL{
		PluginName:   sqliteplugin.PluginName,
		DatabaseName: (&url.URL{Path: db.file}).EscapedPath(),
		ConnectAttributes: map[string]string{
			"mode":         "rwc",
			"journal_mode": "WAL",
			"synchronous":  "FULL",
			"busy_timeout": "10000",
		},
	}
}
