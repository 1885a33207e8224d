package cli

import (
	"fmt"
	"strings"

	urfave "github.com/urfave/cli/v2"
)

const appHelp = `baas: {{.Usage}}

Usage: baas COMMAND [options]

Commands:
{{range .VisibleCommands}}{{if ne .Name "help"}}  {{printf "%-10s" .Name}}{{.Usage}}
{{end}}{{end}}
  baas COMMAND --help shows options and an example.

How a platform is found: --address, else Temporal's own variables and profiles
(TEMPORAL_ADDRESS, TEMPORAL_PROFILE, ...), else a "baas up" on this machine, found
through its data directory. Without any of them, "baas run" starts all parts for
the one run.

Exit codes: 0 done, 1 the run failed, 2 wrong usage or invalid file,
3 something is not reachable, 4 not found.
`

// help is the text that --help shows.
func help(c *urfave.Command, arguments, example string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "baas %s: %s\n\nUsage: %s\n\nExample:\n%s\n\nOptions:\n", c.Name, c.Usage,
		strings.TrimSpace("baas "+c.Name+" [options] "+arguments), indent(example))
	for _, f := range c.Flags {
		f, ok := f.(urfave.DocGenerationFlag)
		if !ok {
			continue
		}
		var names []string
		for _, name := range f.Names() {
			names = append(names, strings.Repeat("-", min(2, len(name)))+name)
		}
		name := strings.Join(names, ", ")
		usage := f.GetUsage()
		if f.TakesValue() {
			name += " " + placeholder(usage)
		}
		if value := f.GetDefaultText(); f.TakesValue() && value != "" && value != "0" && value != `""` {
			usage += " (default: " + strings.Trim(value, `"`) + ")"
		}
		fmt.Fprintf(&b, "  %-22s  %s\n", name, strings.ReplaceAll(usage, "`", ""))
	}
	fmt.Fprintf(&b, "  %-22s  %s\n", "--help, -h", "show this help")
	return strings.ReplaceAll(b.String(), "{{", `{{"{{"}}`)
}

// placeholder is the word in backquotes of an option's usage: what its value is.
func placeholder(usage string) string {
	if parts := strings.SplitN(usage, "`", 3); len(parts) == 3 {
		return parts[1]
	}
	return "VALUE"
}

func indent(s string) string {
	return "  " + strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n  ")
}
