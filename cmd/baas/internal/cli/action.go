package cli

import (
	"context"

	urfave "github.com/urfave/cli/v2"
)

// onPlatform makes the action of a command that works on a platform: read takes
// what the command line says, open finds the platform, which is closed when do
// returns. A mistake of usage is found before anything is opened.
func onPlatform[A any](
	read func(*urfave.Context) (A, error),
	open func(*urfave.Context) (*Platform, error),
	do func(context.Context, *Platform, A) error,
) urfave.ActionFunc {
	return func(c *urfave.Context) error {
		args, err := read(c)
		if err != nil {
			return err
		}
		platform, err := open(c)
		if err != nil {
			return err
		}
		defer platform.close(c.Context)
		return do(c.Context, platform, args)
	}
}

// aboutRun reads what commands about one run have in common: its ID, which is
// their only argument, and --output.
func aboutRun(c *urfave.Context) (id string, asJSON bool, err error) {
	if id, err = oneArgument(c, "run ID"); err != nil {
		return "", false, err
	}
	asJSON, err = wantsJSON(c)
	return id, asJSON, err
}
