package flow

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	yamlparser "github.com/goccy/go-yaml/parser"
)

var (
	yamlLine      = regexp.MustCompile(`line (\d+): `)
	yamlPosition  = regexp.MustCompile(`^\[(\d+):(\d+)\] ([^\n]*)`)
	mayBeTab      = regexp.MustCompile(`cannot start any token|tab character`)
	unknownAnchor = regexp.MustCompile(`unknown anchor '([^']*)'`)
)

// syntax reports what the YAML reader refused. Its errors know the line at best,
// so a second reader is asked for the place.
func (d *document) syntax(err error) {
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	line, column := 1, 1
	if m := yamlLine.FindStringSubmatch(message); m != nil {
		line, _ = strconv.Atoi(m[1])
		message = strings.Replace(message, m[0], "", 1)
		if strings.HasPrefix(message, "did not find expected") {
			line++ // the reader's parser counts from 0, its scanner from 1
		}
		column = d.firstColumn(line)
	}
	if m := unknownAnchor.FindStringSubmatch(message); m != nil {
		line, column = d.find("*" + m[1])
		d.at(line, column, fmt.Sprintf("the alias *%s has no anchor &%s before it", m[1], m[1]), "")
		return
	}
	if at := bytes.IndexFunc(d.src, isControl); at >= 0 {
		line, column = position(d.src, at)
		d.at(line, column, "a control character is not allowed here", "")
		return
	}
	if tabLine, ok := d.tabIndent(); ok && mayBeTab.MatchString(message) {
		d.at(tabLine, 1, "a tab is used for indentation", "YAML wants spaces")
		return
	}
	if m := yamlPosition.FindStringSubmatch(d.secondOpinion()); m != nil {
		line, _ = strconv.Atoi(m[1])
		column, _ = strconv.Atoi(m[2])
		message = m[3]
	}
	line = min(max(line, 1), bytes.Count(d.src, []byte("\n"))+1)
	d.at(line, column, "YAML syntax: "+strings.TrimSuffix(message, "."), d.syntaxHint(line))
}

// maxSecond is the size in bytes up to which the second reader is asked. Its time
// and memory grow with the square of the size, and with the depth of brackets.
const maxSecond = 32 << 10

// secondOpinion is what the second reader says is wrong; "" when it was not asked
// or finds nothing.
func (d *document) secondOpinion() string {
	if len(d.src) > maxSecond || bracketDepth(d.src) > MaxNesting {
		return ""
	}
	err := safely(func() error { _, err := yamlparser.ParseBytes(d.src, 0); return err })
	if err == nil {
		return ""
	}
	return err.Error()
}

// bracketDepth is how deep brackets open in a text, those in quotes included.
func bracketDepth(src []byte) int {
	depth, deepest := 0, 0
	for _, c := range src {
		switch c {
		case '[', '{':
			depth++
			deepest = max(deepest, depth)
		case ']', '}':
			depth = max(depth-1, 0)
		}
	}
	return deepest
}

func (d *document) syntaxHint(line int) string {
	text := string(d.line(line))
	if i := strings.Index(text, "${{"); i > 0 && !strings.ContainsAny(text[i-1:i], `'"`) {
		return `put a value with ${{ }} in quotes: '${{ … }}'`
	}
	return ""
}

func (d *document) firstColumn(line int) int {
	text := d.line(line)
	return 1 + len(text) - len(bytes.TrimLeft(text, " "))
}

func (d *document) line(n int) []byte {
	lines := bytes.SplitN(d.src, []byte("\n"), n+1)
	if n < 1 || n > len(lines) {
		return nil
	}
	return lines[n-1]
}

func (d *document) tabIndent() (int, bool) {
	for i, line := range bytes.Split(d.src, []byte("\n")) {
		indent := line[:len(line)-len(bytes.TrimLeft(line, " \t"))]
		if bytes.ContainsRune(indent, '\t') && len(indent) < len(bytes.TrimRight(line, "\r")) {
			return i + 1, true
		}
	}
	return 0, false
}

func (d *document) find(text string) (line, column int) {
	if i := bytes.Index(d.src, []byte(text)); i >= 0 {
		return position(d.src, i)
	}
	return 1, 1
}
