package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	urfave "github.com/urfave/cli/v2"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/cmd/baas/internal/screen"
	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/starter"
)

var mesosWords = []string{api.InspectAgents, api.InspectOffers, api.InspectTasks, api.InspectRoles}

func (p *Program) mesosCommand() *urfave.Command {
	flags := append([]urfave.Flag{
		&urfave.StringFlag{Name: "framework", Usage: "`NAME` of the workers' framework (BAAS_FRAMEWORK)"},
		&urfave.IntFlag{Name: "limit", Value: 200, Usage: "at most `N` rows"},
		outputFlag(),
	}, connectFlags()...)
	return command(&urfave.Command{Name: "mesos", Usage: "show what the framework holds in Mesos, and why", Flags: flags},
		strings.Join(mesosWords, "|"), "baas mesos tasks",
		onPlatform(p.readMesos, p.needPlatform, p.mesos))
}

type mesosArgs struct {
	starter.MesosOptions
	asJSON bool
}

func (p *Program) readMesos(c *urfave.Context) (a mesosArgs, err error) {
	word, err := oneArgument(c, "word: agents, offers, tasks or roles")
	if err != nil {
		return a, err
	}
	if !slices.Contains(mesosWords, word) {
		return a, usagef("baas mesos %s: expected agents, offers, tasks or roles", screen.OneLine(word))
	}
	a.What, a.Limit, a.Framework = word, c.Int("limit"), p.flagOr(c, "framework", "BAAS_FRAMEWORK")
	if a.Limit < 1 || a.Limit > api.MaxInspectRows {
		return a, usagef("--limit is %d: expected a number from 1 to %d", a.Limit, api.MaxInspectRows)
	}
	a.asJSON, err = wantsJSON(c)
	return a, err
}

func (p *Program) mesos(ctx context.Context, platform *Platform, a mesosArgs) error {
	if a.Framework == "" {
		a.Framework = platform.Framework
	}
	view, err := platform.Runs.Mesos(ctx, a.MesosOptions)
	if err != nil {
		return err
	}
	if a.asJSON {
		return writeJSON(p.Stdout, view)
	}
	p.mesosHead(&view)
	switch a.What {
	case api.InspectAgents:
		err = p.agentTable(&view)
	case api.InspectOffers:
		err = p.offerTable(&view)
	case api.InspectTasks:
		err = p.taskTables(&view)
	case api.InspectRoles:
		err = p.roleTable(&view)
	}
	if err == nil && view.More > 0 {
		_, err = fmt.Fprintf(p.Stdout, "\n%d more; see --limit\n", view.More)
	}
	return err
}

func (p *Program) mesosHead(v *starter.MesosView) {
	var w explanation
	w.value("Leader", fmt.Sprintf("%s, framework %s (%s)", v.Leader, v.Framework, v.FrameworkID))
	if v.Master != "" {
		w.value("Master", fmt.Sprintf("%s, for %s", v.Master, p.since(v.Since)))
	} else {
		w.value("Master", fmt.Sprintf("none, for %s: %s", p.since(v.Since), v.Trouble))
	}
	fmt.Fprintln(p.Stdout, w.text.String())
}

func (p *Program) since(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return screen.Duration(p.Now().Sub(t))
}

// agentTable has the attributes of each agent below its row.
func (p *Program) agentTable(v *starter.MesosView) error {
	rows := make([][]string, len(v.Agents))
	for i := range v.Agents {
		a := &v.Agents[i]
		tasks := 0
		for _, x := range a.Executors {
			tasks += x.Tasks
		}
		has := a.Total
		if has == (mesos.Resources{}) {
			has = a.Largest
		}
		rows[i] = []string{clip(cell(a.Hostname, a.ID), 24), strconv.Itoa(tasks), resources(has), resources(a.Offered), p.agentState(a)}
	}
	var table strings.Builder
	if err := writeTable(&table, []string{"AGENT", "TASKS", "HAS", "OFFERED", "STATE"}, rows); err != nil {
		return err
	}
	var w explanation
	for i, line := range slices.Collect(strings.Lines(table.String())) {
		w.text.WriteString(line)
		if i == 0 {
			continue
		}
		if text := attributes(v.Agents[i-1].Values); text != "" {
			w.line(2, "%s", clip(text, 3*tableWidth))
		}
	}
	_, err := fmt.Fprint(p.Stdout, w.text.String())
	return err
}

func (p *Program) agentState(a *mesos.AgentInfo) string {
	switch {
	case a.Closed != "":
		return screen.OneLine(a.Closed)
	case !a.AvoidedUntil.IsZero() && a.AvoidedUntil.After(p.Now()):
		return fmt.Sprintf("avoided for %s, %d lost", screen.Duration(a.AvoidedUntil.Sub(p.Now())), a.Losses)
	case a.LastOffer.IsZero():
		return "not offered yet"
	case a.Offered != (mesos.Resources{}):
		return "offered"
	}
	return "last offer " + p.since(a.LastOffer) + " ago"
}

// attributes is empty for an agent that has none but its host, which its row names.
func attributes(values map[string]string) string {
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if key != "host" {
			parts = append(parts, clip(key+"="+values[key], 90))
		}
	}
	return strings.Join(parts, " ")
}

func (p *Program) offerTable(v *starter.MesosView) error {
	if len(v.Offers) == 0 {
		_, err := fmt.Fprintln(p.Stdout, "No offers in hand")
		return err
	}
	rows := make([][]string, len(v.Offers))
	for i, o := range v.Offers {
		rows[i] = []string{cell(o.Hostname, o.AgentID), cell(o.Role), resources(o.Resources), p.since(o.Since), screen.OneLine(o.Why)}
	}
	return writeTable(p.Stdout, []string{"AGENT", "ROLE", "RESOURCES", "FOR", "WHY"}, rows)
}

// taskTables shows what waits with the reason below it, and then what is placed.
func (p *Program) taskTables(v *starter.MesosView) error {
	var counts []string
	for _, state := range slices.Sorted(maps.Keys(v.States)) {
		counts = append(counts, fmt.Sprintf("%d %s", v.States[state], state))
	}
	fmt.Fprintf(p.Stdout, "%s\n", cmp.Or(strings.Join(counts, ", "), "No tasks"))
	if len(v.Waiting) > 0 {
		fmt.Fprintln(p.Stdout, "\nWaiting")
		var w explanation
		for _, t := range v.Waiting {
			w.line(2, "%s  owner %s, for %s, %s", nameTask(t.TaskID).address(), cell(t.Owner), p.since(t.Since), resources(t.Resources))
			if t.Why != "" {
				w.line(4, "%s", t.Why)
			}
		}
		fmt.Fprint(p.Stdout, w.text.String())
	}
	if len(v.Tasks) == 0 {
		return nil
	}
	fmt.Fprintln(p.Stdout)
	return p.placedTable(v.Tasks)
}

// placedTable names each run once, above its tasks.
func (p *Program) placedTable(tasks []mesos.TaskInfo) error {
	names := make(map[string]taskName, len(tasks))
	for i := range tasks {
		names[tasks[i].TaskID] = nameTask(tasks[i].TaskID)
	}
	tasks = slices.SortedFunc(slices.Values(tasks), func(a, b mesos.TaskInfo) int {
		return names[a.TaskID].compare(names[b.TaskID])
	})
	rows := make([][]string, len(tasks))
	for i, t := range tasks {
		note := ""
		if t.Killing {
			note = "being killed"
		} else if t.Adopted {
			note = "earlier leader's"
		}
		rows[i] = []string{names[t.TaskID].short(maxTaskName), string(t.State), clip(cell(t.Hostname, t.AgentID), 20), p.since(t.Since), cell(note)}
	}
	var table strings.Builder
	if err := writeTable(&table, []string{"TASK", "STATE", "AGENT", "FOR", "NOTE"}, rows); err != nil {
		return err
	}
	var out strings.Builder
	run := ""
	for i, line := range slices.Collect(strings.Lines(table.String())) {
		if i > 0 {
			if name := names[tasks[i-1].TaskID]; i == 1 || name.run != run {
				run = name.run
				fmt.Fprintf(&out, "%s, owner %s\n", cell(run), cell(tasks[i-1].Owner))
			}
		}
		out.WriteString("  " + line)
	}
	_, err := io.WriteString(p.Stdout, out.String())
	return err
}

func (p *Program) roleTable(v *starter.MesosView) error {
	rows := make([][]string, len(v.Roles))
	for i, r := range v.Roles {
		state := "wants offers"
		switch {
		case r.Refused != "":
			state = "refused: " + screen.OneLine(r.Refused)
		case !r.Joined:
			state = "not the framework's"
		case r.Suppressed:
			state = "suppressed: nothing waits"
		}
		var limits []string
		for _, name := range slices.Sorted(maps.Keys(r.Limit)) {
			limits = append(limits, fmt.Sprintf("%s %g", name, r.Limit[name]))
		}
		rows[i] = []string{
			r.Name, strconv.Itoa(r.Waiting), strconv.Itoa(r.Tasks), strconv.Itoa(r.Offers), resources(r.Held),
			cell(strings.Join(limits, ", ")), state,
		}
	}
	return writeTable(p.Stdout, []string{"ROLE", "WAITING", "TASKS", "OFFERS", "HOLDS", "QUOTA", "STATE"}, rows)
}

// resources are short: 4 CPU, 16 GB, 1 GPU.
func resources(r mesos.Resources) string {
	if r == (mesos.Resources{}) {
		return "-"
	}
	parts := []string{fmt.Sprintf("%.4g CPU", r.CPUs), bytesText(r.Mem)}
	if r.GPUs > 0 {
		parts = append(parts, fmt.Sprintf("%d GPU", r.GPUs))
	}
	return strings.Join(parts, ", ")
}

// cell is the first text that is not empty, or a dash.
func cell(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return screen.OneLine(t)
		}
	}
	return "-"
}
