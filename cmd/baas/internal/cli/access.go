package cli

import (
	"context"
	"os"
	"strings"

	urfave "github.com/urfave/cli/v2"

	"github.com/baas-batch/baas/mesos"
)

// MesosAccess says how masters and agents let this process in. What its files hold
// is read by Open, since most commands never speak to Mesos.
type MesosAccess struct {
	// Credentials is a file as Mesos' --credential; without one, the rest counts.
	Credentials                   string
	Principal, Secret, SecretFile string

	Files  mesos.TLSFiles
	UseTLS bool // also without files of our own
}

// mesosAccess reads flags, which only some commands have, and variables. A secret is
// never a flag: everybody on a machine sees those.
func (p *Program) mesosAccess(c *urfave.Context) MesosAccess {
	return MesosAccess{
		Credentials: p.flagOr(c, "mesos-credentials", "BAAS_MESOS_CREDENTIALS"),
		Principal:   p.flagOr(c, "principal", "BAAS_MESOS_PRINCIPAL"),
		Secret:      p.getenv("BAAS_MESOS_SECRET"),
		SecretFile:  p.flagOr(c, "secret-file", "BAAS_MESOS_SECRET_FILE"),
		Files: mesos.TLSFiles{
			CA:   p.flagOr(c, "mesos-ca", "BAAS_MESOS_CA"),
			Cert: p.flagOr(c, "mesos-cert", "BAAS_MESOS_CERT"),
			Key:  p.flagOr(c, "mesos-key", "BAAS_MESOS_KEY"),
		},
		UseTLS: c.Bool("mesos-tls") || p.getenv("BAAS_MESOS_TLS") != "",
	}
}

func credentialsFlag() urfave.Flag {
	return &urfave.StringFlag{Name: "mesos-credentials", Usage: "`FILE` of principal and secret (BAAS_MESOS_CREDENTIALS)"}
}

// accessFlags are those of commands that join a Mesos cluster.
func accessFlags() []urfave.Flag {
	return []urfave.Flag{
		credentialsFlag(),
		&urfave.StringFlag{Name: "principal", Usage: "Mesos principal `NAME` (BAAS_MESOS_PRINCIPAL)"},
		&urfave.StringFlag{Name: "secret-file", Usage: "`FILE` with the principal's secret (BAAS_MESOS_SECRET_FILE)"},
		&urfave.StringFlag{Name: "mesos-ca", Usage: "PEM `FILE` of Mesos' CA (BAAS_MESOS_CA; default: the system's)"},
		&urfave.StringFlag{Name: "mesos-cert", Usage: "PEM `FILE` of the client certificate for Mesos (BAAS_MESOS_CERT)"},
		&urfave.StringFlag{Name: "mesos-key", Usage: "PEM `FILE` of its key (BAAS_MESOS_KEY)"},
		&urfave.BoolFlag{Name: "mesos-tls", Usage: "masters found in ZooKeeper speak https (BAAS_MESOS_TLS=1)"},
	}
}

// Open reads the files. TLS is nil where none is asked for.
func (m MesosAccess) Open() (a mesos.Access, err error) {
	a.Principal, a.Secret = m.Principal, m.Secret
	switch {
	case m.Credentials != "":
		if a.Principal, a.Secret, err = mesos.ReadCredentials(m.Credentials); err != nil {
			return mesos.Access{}, usagef("%v", err)
		}
	case m.SecretFile != "":
		secret, err := os.ReadFile(m.SecretFile)
		if err != nil {
			return mesos.Access{}, usagef("secret file: %v", err)
		}
		a.Secret = strings.TrimSpace(string(secret))
	}
	if a.Secret != "" && a.Principal == "" {
		return mesos.Access{}, usagef("there is a secret for Mesos, but no principal: name it with BAAS_MESOS_PRINCIPAL, or both in BAAS_MESOS_CREDENTIALS")
	}
	if m.UseTLS || m.Files != (mesos.TLSFiles{}) {
		if a.TLS, err = m.Files.Load(); err != nil {
			return mesos.Access{}, usagef("%v", err)
		}
	}
	return a, nil
}

// ReadLive reads files of agents. What is wrong with the access is told by each try.
func (m MesosAccess) ReadLive() func(ctx context.Context, agentEndpoint, path string, offset, length int64) ([]byte, error) {
	if m == (MesosAccess{}) {
		return mesos.ReadFile
	}
	a, err := m.Open()
	files := mesos.NewAgentFiles(a.TLS, a.Principal, a.Secret)
	return func(ctx context.Context, agentEndpoint, path string, offset, length int64) ([]byte, error) {
		if err != nil {
			return nil, err
		}
		return files.Read(ctx, agentEndpoint, path, offset, length)
	}
}
