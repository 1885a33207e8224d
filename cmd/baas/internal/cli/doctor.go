package cli

import (
	"errors"
	"fmt"

	urfave "github.com/urfave/cli/v2"
)

// Finding is what doctor says about one part.
type Finding struct {
	Part   string `json:"part"`
	Level  Level  `json:"level"`
	Says   string `json:"says"`
	Advice string `json:"advice,omitempty"`
}

// Level of a finding.
type Level string

// The levels. Unreachable makes doctor exit with ExitUnreachable, Bad with ExitFailed.
const (
	Good        Level = "ok"
	Note        Level = "note"
	Bad         Level = "bad"
	Unreachable Level = "unreachable"
)

func (p *Program) doctorCommand() *urfave.Command {
	flags := append([]urfave.Flag{outputFlag(), executorFlag()}, connectFlags()...)
	return command(&urfave.Command{Name: "doctor", Usage: "check each part of the platform and say what to do", Flags: flags}, "",
		"baas doctor", p.doctor)
}

func (p *Program) doctor(c *urfave.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	asJSON, err := wantsJSON(c)
	if err != nil {
		return err
	}
	t, err := p.target(c)
	if err != nil && !errors.Is(err, errNoPlatform) {
		return err
	}
	o, err := p.embedOptions(c)
	if err != nil {
		return err
	}
	findings := p.Parts.Doctor(c.Context, t, o)
	if asJSON {
		err = writeJSON(p.Stdout, findings)
	} else {
		err = p.printFindings(findings)
	}
	if err != nil {
		return err
	}
	code := ExitDone
	for _, f := range findings {
		switch {
		case f.Level == Unreachable:
			code = ExitUnreachable
		case f.Level == Bad && code == ExitDone:
			code = ExitFailed
		}
	}
	if code != ExitDone {
		return exitError{code}
	}
	return nil
}

func (p *Program) printFindings(findings []Finding) error {
	for _, f := range findings {
		if _, err := fmt.Fprintf(p.Stdout, "%-11s  %-10s  %s\n", f.Level, f.Part, f.Says); err != nil {
			return err
		}
		if f.Advice != "" {
			fmt.Fprintf(p.Stdout, "%-11s  %-10s  -> %s\n", "", "", f.Advice)
		}
	}
	return nil
}
