package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	urfave "github.com/urfave/cli/v2"

	"github.com/baas-batch/baas/cmd/baas/internal/screen"
)

const tableWidth = 100

func outputFlag() urfave.Flag {
	return &urfave.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "table", Usage: "`FORMAT`: table or json"}
}

// wantsJSON reads --output.
func wantsJSON(c *urfave.Context) (bool, error) {
	switch c.String("output") {
	case "json":
		return true, nil
	case "table":
		return false, nil
	}
	return false, usagef("--output is %q: expected table or json", c.String("output"))
}

func writeJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}

// writeTable writes columns of text, at most tableWidth wide; the most important
// come first. See fit.
func writeTable(w io.Writer, header []string, rows [][]string) error {
	widths := make([]int, len(header))
	all := append([][]string{header}, rows...)
	for _, row := range all {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	widths = fit(widths)
	for _, row := range all {
		var line strings.Builder
		for i, width := range widths {
			cell := clip(row[i], width)
			line.WriteString(cell)
			line.WriteString(strings.Repeat(" ", width-utf8.RuneCountInString(cell)+gap))
		}
		if _, err := fmt.Fprintln(w, strings.TrimRight(line.String(), " ")); err != nil {
			return err
		}
	}
	return nil
}

const (
	gap        = 2
	leastWidth = 12 // below which a column is left out rather than cut
)

// fit cuts the last column and, where that is not enough, leaves the last columns
// out, until all are tableWidth together.
func fit(widths []int) []int {
	over := -gap - tableWidth
	for _, n := range widths {
		over += n + gap
	}
	for last := len(widths) - 1; last > 0 && over > 0; last-- {
		if widths[last]-over >= leastWidth {
			widths[last] -= over
			break
		}
		over -= widths[last] + gap
		widths = widths[:last]
	}
	return widths
}

func clip(s string, width int) string {
	s = screen.OneLine(s)
	if utf8.RuneCountInString(s) <= width {
		return s
	}
	runes := []rune(s)
	return string(runes[:max(0, width-1)]) + "…"
}

// stamp is a time for people, in their zone and with its name.
func stamp(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05 MST")
}

// number counts things in words: "1 file", "2 files".
func number(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
