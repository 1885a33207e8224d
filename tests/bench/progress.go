package main

import (
	"fmt"
	"os"

	"golang.org/x/term"
)

// progress tells how far the measuring is: on a terminal what runs now in one line that
// changes, elsewhere only what is done.
type progress struct {
	out      *os.File
	terminal bool
}

func newProgress(out *os.File) *progress {
	return &progress{out, term.IsTerminal(int(out.Fd()))}
}

const clearLine = "\r\x1b[K"

// say tells what runs now.
func (p *progress) say(format string, args ...any) {
	if p.terminal {
		fmt.Fprintf(p.out, clearLine+format, args...)
	}
}

// done tells what is done.
func (p *progress) done(format string, args ...any) {
	p.end()
	fmt.Fprintf(p.out, format+"\n", args...)
}

// end takes the line that changes away.
func (p *progress) end() {
	if p.terminal {
		fmt.Fprint(p.out, clearLine)
	}
}
