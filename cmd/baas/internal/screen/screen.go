// Package screen draws a run on a terminal: a block of lines that is replaced in
// place, and the tree of steps that such a block shows.
package screen

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Screen replaces a block of lines at the end of a terminal's output (ECMA-48
// control sequences). It is not for use from several goroutines.
type Screen struct {
	w     io.Writer
	size  func() (columns, rows int)
	drawn int // lines of the last block
}

// New draws on w, whose size may change.
func New(w io.Writer, size func() (columns, rows int)) *Screen {
	return &Screen{w: w, size: size}
}

// Size is the terminal's size in characters; 80 × 24 when it is not known.
func (s *Screen) Size() (columns, rows int) {
	columns, rows = s.size()
	if columns <= 0 || rows <= 0 {
		return 80, 24
	}
	return columns, rows
}

// Draw replaces the last block. Lines that are too long are cut; of a block that is
// too high, the first lines are shown.
func (s *Screen) Draw(lines []string) error {
	columns, rows := s.Size()
	lines = lines[:min(len(lines), rows-1)]
	var b strings.Builder
	if s.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", s.drawn)
	}
	b.WriteString("\r\x1b[J")
	for _, line := range lines {
		b.WriteString(cut(line, columns-1))
		b.WriteString("\x1b[0m\n")
	}
	s.drawn = len(lines)
	_, err := io.WriteString(s.w, b.String())
	return err
}

// Keep leaves the last block where it is: the next one goes below.
func (s *Screen) Keep() { s.drawn = 0 }

// cut shortens a line to a number of characters, not counting colours.
func cut(line string, width int) string {
	seen := 0
	for i := 0; i < len(line); {
		if n := colourLength(line[i:]); n > 0 {
			i += n
			continue
		}
		if seen == width {
			return line[:i]
		}
		_, n := utf8.DecodeRuneInString(line[i:])
		i += n
		seen++
	}
	return line
}

// colourLength is the length of a colour sequence at the beginning of s.
func colourLength(s string) int {
	if !strings.HasPrefix(s, "\x1b[") {
		return 0
	}
	return strings.IndexByte(s, 'm') + 1
}
