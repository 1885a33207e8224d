package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"

	urfave "github.com/urfave/cli/v2"

	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/starter"
)

func (p *Program) validateCommand() *urfave.Command {
	return command(&urfave.Command{Name: "validate", Usage: "check a flow file and name all mistakes", Flags: []urfave.Flag{outputFlag()}}, "FILE",
		"baas validate flow.yaml", p.validate)
}

// validation is the answer of validate as JSON.
type validation struct {
	File     string         `json:"file"`
	Valid    bool           `json:"valid"`
	Problems []flow.Problem `json:"problems"`
}

func (p *Program) validate(c *urfave.Context) error {
	file, err := oneArgument(c, "flow file")
	if err != nil {
		return err
	}
	asJSON, err := wantsJSON(c)
	if err != nil {
		return err
	}
	app, err := p.load(file)
	var invalid *starter.InvalidError
	if asJSON && (err == nil || errors.As(err, &invalid)) {
		answer := validation{File: file, Valid: err == nil, Problems: []flow.Problem{}}
		if invalid != nil {
			answer.Problems = append(answer.Problems, invalid.Flow...)
		}
		if err := writeJSON(p.Stdout, answer); err != nil || answer.Valid {
			return err
		}
		return exitError{ExitUsage}
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(p.Stdout, "%s is valid: %s, %s\n", file, app.Flow.Name, number(len(app.Flow.Steps)+len(app.Flow.OnExit), "step"))
	return nil
}

func (p *Program) graphCommand() *urfave.Command {
	return command(&urfave.Command{Name: "graph", Usage: "draw a flow file as a Mermaid graph"}, "FILE",
		"baas graph flow.yaml > flow.mmd", func(c *urfave.Context) error {
			file, err := oneArgument(c, "flow file")
			if err != nil {
				return err
			}
			app, err := p.load(file)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(p.Stdout, strings.TrimRight(app.Flow.Mermaid(), "\n"))
			return err
		})
}

func (p *Program) logsCommand() *urfave.Command {
	flags := append([]urfave.Flag{
		&urfave.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "go on until the run, or the step, has ended"},
	}, connectFlags()...)
	return command(&urfave.Command{Name: "logs", Usage: "print the logs of a run, a step or a partition", Flags: flags}, "RUN[/STEP[#PARTITION]]",
		"baas logs -f statements-9f86d081884c7d65-5e2f91aa/render#17", onPlatform(readLogs, p.connect, p.logs))
}

type logsArgs struct {
	starter.LogOptions
	run string
}

func readLogs(c *urfave.Context) (a logsArgs, err error) {
	word, err := oneArgument(c, "run ID")
	if err != nil {
		return a, err
	}
	a.run, a.LogOptions, err = parseLogs(word)
	a.Follow = c.Bool("follow")
	return a, err
}

func (p *Program) logs(ctx context.Context, platform *Platform, a logsArgs) error {
	out := &logPrinter{w: p.Stdout, plain: a.Partition >= 0}
	for chunk, err := range platform.Runs.Logs(ctx, a.run, a.LogOptions) {
		if err != nil {
			return errors.Join(out.end(), err)
		}
		if err := out.print(chunk); err != nil {
			return err
		}
	}
	return out.end()
}

// parseLogs reads RUN[/STEP[#PARTITION]].
func parseLogs(word string) (id string, o starter.LogOptions, err error) {
	o.Partition = starter.AllPartitions
	id, rest, hasStep := strings.Cut(word, "/")
	step, partition, hasPartition := strings.Cut(rest, "#")
	o.Step = step
	if id == "" || hasStep && step == "" {
		return "", o, usagef("%q: expected RUN, RUN/STEP or RUN/STEP#PARTITION", word)
	}
	if hasPartition {
		if o.Partition, err = strconv.Atoi(partition); err != nil || o.Partition < 0 {
			return "", o, usagef("partition %q: expected a number from 0", partition)
		}
	}
	return id, o, nil
}

// logPrinter writes chunks as lines that say where they are from, unless only one
// partition was asked for.
type logPrinter struct {
	w     io.Writer
	plain bool
	last  starter.LogChunk
	open  bool // the last line has not ended
}

func (l *logPrinter) print(chunk starter.LogChunk) error {
	if l.plain {
		_, err := l.w.Write(chunk.Data)
		return err
	}
	if l.open && (chunk.Step != l.last.Step || chunk.Partition != l.last.Partition || chunk.Attempt != l.last.Attempt) {
		if err := l.end(); err != nil {
			return err
		}
	}
	l.last = chunk
	prefix := fmt.Sprintf("%s#%d", chunk.Step, chunk.Partition)
	if chunk.Attempt > 1 {
		prefix += fmt.Sprintf(" (attempt %d)", chunk.Attempt)
	}
	var b bytes.Buffer
	for _, line := range bytes.SplitAfter(chunk.Data, []byte("\n")) {
		if len(line) == 0 {
			continue
		}
		if !l.open {
			b.WriteString(prefix + " | ")
		}
		b.Write(line)
		l.open = line[len(line)-1] != '\n'
	}
	_, err := l.w.Write(b.Bytes())
	return err
}

func (l *logPrinter) end() error {
	if !l.open {
		return nil
	}
	l.open = false
	_, err := fmt.Fprintln(l.w)
	return err
}

func (p *Program) outputsCommand() *urfave.Command {
	flags := append([]urfave.Flag{
		&urfave.StringFlag{Name: "download", Usage: "write all files below `DIR`"},
		outputFlag(),
	}, connectFlags()...)
	return command(&urfave.Command{Name: "outputs", Usage: "list the outputs of a run, or download their files", Flags: flags}, "RUN",
		"baas outputs --download ./march statements-9f86d081884c7d65-5e2f91aa", onPlatform(readOutputs, p.connect, p.outputs))
}

type outputsArgs struct {
	run      string
	download string // directory; "" only lists
	asJSON   bool
}

func readOutputs(c *urfave.Context) (a outputsArgs, err error) {
	a.download = c.String("download")
	a.run, a.asJSON, err = aboutRun(c)
	return a, err
}

func (p *Program) outputs(ctx context.Context, platform *Platform, a outputsArgs) error {
	run, err := platform.Runs.Describe(ctx, a.run)
	if err != nil {
		return err
	}
	outputs := run.Outputs()
	if a.download != "" {
		return p.download(ctx, platform, outputs, a.download)
	}
	if a.asJSON {
		if outputs == nil {
			outputs = []starter.Output{}
		}
		return writeJSON(p.Stdout, outputs)
	}
	rows := make([][]string, len(outputs))
	for i, o := range outputs {
		rows[i] = []string{o.Step, o.Name, showOutput(o)}
	}
	return writeTable(p.Stdout, []string{"STEP", "OUTPUT", "VALUE"}, rows)
}

func (p *Program) download(ctx context.Context, platform *Platform, outputs []starter.Output, dir string) error {
	files := 0
	for _, o := range outputs {
		written, err := platform.Runs.Download(ctx, o, dir)
		files += len(written)
		if err != nil {
			return err
		}
	}
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	fmt.Fprintf(p.Stdout, "%s in %s\n", number(files, "file"), absolute)
	return nil
}

// showOutput is an output in one line.
func showOutput(o starter.Output) string {
	if o.Many != nil {
		return number(o.Many.N, "value") + " in storage"
	}
	var size int64
	for _, f := range o.Files {
		if f.IsDirectory() {
			size += f.Bytes
		} else {
			size += f.Size
		}
	}
	switch len(o.Files) {
	case 0:
		var text string
		if json.Unmarshal(o.Value, &text) == nil {
			return text
		}
		return string(o.Value)
	case 1:
		name := o.Files[0].Name
		if o.Files[0].IsDirectory() {
			name += "/"
		}
		return fmt.Sprintf("%s, %s", name, bytesText(size))
	}
	return number(len(o.Files), "file") + ", " + bytesText(size)
}

func bytesText(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n), 0
	for value >= 999.95 && unit < len(byteUnits) {
		value /= 1000
		unit++
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", value), ".0") + " " + byteUnits[unit-1]
}

var byteUnits = []string{"kB", "MB", "GB", "TB", "PB", "EB"}
