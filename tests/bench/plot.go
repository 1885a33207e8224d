package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
)

// Sizes of the plot, in pixels.
const (
	plotWidth  = 960
	labelWidth = 330 // of the names beside the bars
	barWidth   = 470 // for ratios from 1/extent to extent times the goal
	lineHeight = 26
	curveTop   = 30 // above the curve: its title
	curveHigh  = 240
)

// extent is how far from its goal a bar can show a figure, either way.
const extent = 32.0

// drawing is an SVG document that grows, see https://www.w3.org/TR/SVG11.
type drawing struct{ bytes.Buffer }

func (d *drawing) text(x, y float64, anchor, s string) {
	fmt.Fprintf(d, `<text x="%.1f" y="%.1f" text-anchor="%s">`, x, y, anchor)
	_ = xml.EscapeText(d, []byte(s)) // a buffer takes everything
	d.WriteString("</text>\n")
}

func (d *drawing) line(x1, y1, x2, y2 float64, class string) {
	fmt.Fprintf(d, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" class="%s"/>`+"\n", x1, y1, x2, y2, class)
}

func (d *drawing) box(x, y, width, height float64, class string) {
	fmt.Fprintf(d, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" class="%s"/>`+"\n", x, y, width, height, class)
}

const style = `text{font:13px sans-serif;fill:#222} .met{fill:#3a7d44} .missed{fill:#c0673a} .goal{stroke:#222;stroke-width:1.5}
.spread{stroke:#222;stroke-width:1} .grid{stroke:#ddd} .floor{stroke:#777;stroke-dasharray:6 4} .curve{fill:none;stroke:#2b5c9e;stroke-width:2}
.dot{fill:#2b5c9e} .paper{fill:#fff}`

// plotted draws a report: a bar for each figure that has a goal, and the curves that
// were measured.
func plotted(r *Report) []byte {
	var body drawing
	y := body.bars(r, 0)
	for _, l := range curves {
		y = body.curve(l, r, y)
	}
	var d drawing
	fmt.Fprintf(&d, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %.0f" width="%[1]d" height="%.0[2]f">`+"\n", plotWidth, y)
	d.WriteString("<style>" + style + "</style>\n")
	d.box(0, 0, plotWidth, y, "paper")
	d.Write(body.Bytes())
	d.WriteString("</svg>\n")
	return d.Bytes()
}

// reach tells how many times the goal is reached: 1 is just met, more is better.
func (r Result) reach(v float64) float64 {
	if r.AtLeast {
		return v / r.Goal
	}
	return r.Goal / v
}

// bars draws from y downwards and gives where it ends.
func (d *drawing) bars(r *Report, y float64) float64 {
	if !slices.ContainsFunc(r.Figures, func(f Result) bool { return f.Met != nil }) {
		return y
	}
	at := func(reach float64) float64 {
		exponent := math.Log(min(max(reach, 1/extent), extent)) / math.Log(extent)
		return labelWidth + barWidth/2*(1+exponent)
	}
	top := y + lineHeight
	d.text(at(1), top-8, "middle", "goal")
	d.text(at(extent), top-8, "end", "better")
	y = top
	for _, f := range r.Figures {
		if f.Met == nil {
			continue
		}
		shown, class := f.Our, "missed"
		if f.Ratio != nil {
			shown = *f.Ratio
		}
		if *f.Met {
			class = "met"
		}
		name := f.Name
		if f.Floor != "" {
			name += " / " + f.Floor
		}
		middle := y + lineHeight/2
		from, to := at(1), at(f.reach(shown.Median))
		d.text(labelWidth-10, middle+4, "end", name)
		d.box(min(from, to), middle-7, math.Abs(to-from), 14, class)
		d.line(at(f.reach(shown.Min)), middle, at(f.reach(shown.Max)), middle, "spread")
		d.text(plotWidth-8, middle+4, "end", number(shown.Median)+" (goal "+f.goal()+")")
		y += lineHeight
	}
	d.line(at(1), top, at(1), y, "goal")
	return y + lineHeight
}

// anchorOf keeps what is written at the ends of a curve beside what stands outside.
func anchorOf(i, n int) string {
	switch i {
	case 0:
		return "start"
	case n - 1:
		return "end"
	default:
		return "middle"
	}
}

// curve draws a line's values over its sizes, both by powers of ten, with the floors
// that were measured beside those of partitions.
func (d *drawing) curve(l line, r *Report, y float64) float64 {
	var sizes, values []float64
	floors := map[string]float64{}
	low, high := math.Inf(1), 0.0
	see := func(v float64) { low, high = min(low, v), max(high, v) }
	for _, f := range r.Figures {
		switch {
		case f.Of == l.of:
			sizes, values = append(sizes, float64(f.At)), append(values, f.Our.Median)
			see(f.Our.Median)
		case f.Group == l.of && f.Their != nil:
			floors[f.Floor] = f.Their.Median
			see(f.Their.Median)
		}
	}
	if len(sizes) < 2 || low <= 0 {
		return y
	}
	y += curveTop
	low, high = math.Floor(math.Log10(low)), math.Ceil(math.Log10(high)+1e-9)
	left, right := 80.0, plotWidth-120.0
	x := func(n float64) float64 {
		first, last := math.Log10(sizes[0]), math.Log10(sizes[len(sizes)-1])
		return left + (right-left)*(math.Log10(n)-first)/(last-first)
	}
	up := func(v float64) float64 { return y + curveHigh*(high-math.Log10(v))/(high-low) }
	d.text(left, y-12, "start", l.title)
	for e := low; e <= high; e++ {
		d.line(left, up(math.Pow(10, e)), right, up(math.Pow(10, e)), "grid")
		d.text(left-8, up(math.Pow(10, e))+4, "end", strconv.FormatFloat(math.Pow(10, e), 'f', -1, 64))
	}
	for _, name := range slices.Sorted(maps.Keys(floors)) {
		v := floors[name]
		d.line(left, up(v), right, up(v), "floor")
		d.text(right+6, up(v)+4, "start", name)
	}
	d.WriteString(`<polyline class="curve" points="`)
	for i, n := range sizes {
		fmt.Fprintf(d, "%.1f,%.1f ", x(n), up(values[i]))
	}
	d.WriteString(`"/>` + "\n")
	for i, n := range sizes {
		fmt.Fprintf(d, `<circle cx="%.1f" cy="%.1f" r="3.5" class="dot"/>`+"\n", x(n), up(values[i]))
		d.text(x(n), up(values[i])+20, anchorOf(i, len(sizes)), number(values[i]))
		d.text(x(n), y+curveHigh+20, "middle", count(int(n)))
	}
	return y + curveHigh + 40
}
