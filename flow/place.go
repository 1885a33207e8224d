package flow

import (
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// place finds where the byte at offset of a scalar's value stands in the file, by
// walking value and source side by side. Where they cannot be matched it gives
// the last place that it was sure of.
func (d *document) place(n *yaml.Node, offset int) (line, column int) {
	src, start := d.from(n)
	if src == "" {
		return n.Line, n.Column
	}
	w := placeWalk{src: src, style: n.Style}
	w.open()
	for i, r := range n.Value {
		if i >= offset || !w.match(r) {
			break
		}
	}
	if offset < len(n.Value) {
		r, _ := utf8.DecodeRuneInString(n.Value[offset:])
		w.settle(r)
	}
	return position(d.src, start+min(w.at, len(src)))
}

// from gives the source from a node on, and its offset.
func (d *document) from(n *yaml.Node) (string, int) {
	src, offset := string(d.src), 0
	for line := 1; line < n.Line; line++ {
		i := strings.IndexByte(src[offset:], '\n')
		if i < 0 {
			return "", 0
		}
		offset += i + 1
	}
	for column := 1; column < n.Column && offset < len(src); column++ {
		_, size := utf8.DecodeRuneInString(src[offset:])
		offset += size
	}
	return src[offset:], offset
}

type placeWalk struct {
	src    string
	at     int
	style  yaml.Style
	indent int // of a block scalar
}

func (w *placeWalk) block() bool { return w.style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 }

// open moves to the first character of the value, behind tag, anchor, quote or
// block header.
func (w *placeWalk) open() {
	for w.at < len(w.src) && (w.src[w.at] == '&' || w.src[w.at] == '!') {
		end := strings.IndexAny(w.src[w.at:], " \n")
		if end < 0 {
			return
		}
		w.at += end
		w.blanks(" \t")
	}
	switch {
	case w.style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0:
		w.at++
	case w.block():
		end := strings.IndexByte(w.src[w.at:], '\n')
		if end < 0 {
			return
		}
		w.at += end + 1
		begin := w.at
		w.blanks(" \n\r")
		w.indent = w.at - max(begin, strings.LastIndexByte(w.src[:w.at], '\n')+1)
	}
}

func (w *placeWalk) blanks(set string) {
	w.at += len(w.src[w.at:]) - len(strings.TrimLeft(w.src[w.at:], set))
}

// skipIndent passes over a block scalar's indentation, and no more than that.
func (w *placeWalk) skipIndent() {
	for i := 0; i < w.indent && w.at < len(w.src) && w.src[w.at] == ' '; i++ {
		w.at++
	}
}

// match consumes what the value's next rune was written as.
func (w *placeWalk) match(r rune) bool {
	w.settle(r)
	rest := w.src[w.at:]
	if rest == "" {
		return false
	}
	switch {
	case w.style&yaml.DoubleQuotedStyle != 0 && rest[0] == '\\':
		w.at += escapeLength(rest)
		return true
	case w.style&yaml.SingleQuotedStyle != 0 && strings.HasPrefix(rest, "''"):
		w.at += 2
		return true
	}
	got, size := utf8.DecodeRuneInString(rest)
	switch {
	case got == r:
		w.at += size
	case (r == ' ' || r == '\n') && (got == '\n' || got == '\r'):
		w.at += size
		got = '\n'
	default:
		return false
	}
	if got == '\n' {
		w.nextLine()
	}
	return true
}

func (w *placeWalk) nextLine() {
	if w.block() {
		w.skipIndent()
	} else {
		w.blanks(" \t")
	}
}

// settle passes over line breaks that the value does not show, before its rune r.
func (w *placeWalk) settle(r rune) {
	for w.style&yaml.LiteralStyle == 0 && r != ' ' && r != '\n' && w.at < len(w.src) && strings.IndexByte("\r\n", w.src[w.at]) >= 0 {
		w.at++
		w.nextLine()
	}
	for w.style&yaml.DoubleQuotedStyle != 0 && strings.HasPrefix(w.src[min(w.at, len(w.src)):], "\\\n") {
		w.at += 2
		w.blanks(" \t")
	}
}

func escapeLength(s string) int {
	if len(s) < 2 {
		return len(s)
	}
	n := 2
	switch s[1] {
	case 'x':
		n = 4
	case 'u':
		n = 6
	case 'U':
		n = 10
	}
	return min(n, len(s))
}
