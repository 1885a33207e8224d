package flow

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// document is one YAML file with a place to collect its problems.
type document struct {
	file     string
	src      []byte
	problems Problems
	seen     map[Problem]bool

	misspellings map[misspelling]bool
}

// load reads the one document of a file. It returns nil when there is none that
// could be looked at further; then there are problems.
func load(file string, src []byte) (*document, *yaml.Node) {
	d := &document{file: file, src: src, seen: map[Problem]bool{}, misspellings: map[misspelling]bool{}}
	if len(src) > MaxFileSize {
		d.at(1, 1, fmt.Sprintf("the file has %d bytes", len(src)), fmt.Sprintf("at most %d are read", MaxFileSize))
		return d, nil
	}
	d.src = unixLines(bytes.TrimPrefix(src, []byte("\ufeff")))
	if line, column, ok := invalidUTF8(d.src); ok {
		d.at(line, column, "the file is not UTF-8 text", "save it as UTF-8")
		return d, nil
	}
	if at := bytes.IndexAny(d.src, oddBreaks); at >= 0 {
		line, column := position(d.src, at)
		r, _ := utf8.DecodeRune(d.src[at:])
		d.at(line, column, fmt.Sprintf("the character %U is a line break to some readers and none to others", r),
			fmt.Sprintf("write \\u%04X in double quotes, or leave it out", r))
		return d, nil
	}
	root := d.decode()
	if root == nil {
		return d, nil
	}
	if !d.checkTree(root) {
		return d, nil
	}
	return d, root
}

// oddBreaks end a line in YAML 1.1, and in no editor.
const oddBreaks = "\u0085\u2028\u2029"

// unixLines makes a carriage return that stands alone what it is in YAML, the end
// of a line, so that all count lines alike.
func unixLines(src []byte) []byte {
	var out []byte // src with changes, if there are any
	for i, c := range src {
		if c != '\r' || i+1 < len(src) && src[i+1] == '\n' {
			continue
		}
		if out == nil {
			out = bytes.Clone(src)
		}
		out[i] = '\n'
	}
	if out == nil {
		return src
	}
	return out
}

func (d *document) decode() *yaml.Node {
	dec := yaml.NewDecoder(bytes.NewReader(d.src))
	var doc yaml.Node
	err := safely(func() error { return dec.Decode(&doc) })
	switch {
	case errors.Is(err, io.EOF):
		d.at(1, 1, "the file is empty", "")
		return nil
	case err != nil:
		d.syntax(err)
		return nil
	}
	var second yaml.Node
	err = safely(func() error { return dec.Decode(&second) })
	switch {
	case err == nil:
		d.at(max(second.Line, 1), max(second.Column, 1), "a second YAML document starts here", "one file holds one")
	case !errors.Is(err, io.EOF):
		d.syntax(err)
		return nil
	}
	if len(doc.Content) == 0 || isNull(doc.Content[0]) {
		d.at(1, 1, "the file is empty", "")
		return nil
	}
	return doc.Content[0]
}

// safely keeps a panic of a YAML reader from ending the process.
func safely(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("yaml: cannot be read: %v", r)
		}
	}()
	return f()
}

func isControl(r rune) bool {
	return r < ' ' && r != '\n' && r != '\r' && r != '\t' || r == 0x7f
}

func invalidUTF8(src []byte) (line, column int, found bool) {
	for i := 0; i < len(src); {
		r, n := utf8.DecodeRune(src[i:])
		if r == utf8.RuneError && n == 1 {
			line, column = position(src, i)
			return line, column, true
		}
		i += n
	}
	return 0, 0, false
}

// position turns a byte offset into line and column.
func position(src []byte, offset int) (line, column int) {
	before := src[:offset]
	start := bytes.LastIndexByte(before, '\n') + 1
	return bytes.Count(before, []byte("\n")) + 1, utf8.RuneCount(before[start:]) + 1
}

// at records a problem, each only once.
func (d *document) at(line, column int, message, hint string) {
	p := Problem{File: d.file, Line: line, Column: column, Message: message, Hint: hint}
	if d.full() || d.seen[p] {
		return
	}
	d.seen[p] = true
	d.problems = append(d.problems, p)
}

// misspelt records an unknown word at a node, with the name that it most likely
// meant. What an alias repeats is not looked for again.
func (d *document) misspelt(n *yaml.Node, message, word string, names []string) {
	m := misspelling{n, message}
	if d.full() || d.misspellings[m] {
		return
	}
	d.misspellings[m] = true
	d.node(n, message, didYouMean(word, names))
}

type misspelling struct {
	node    *yaml.Node
	message string
}

// full tells that no more problems are taken, so that none need be looked for.
func (d *document) full() bool { return len(d.problems) >= MaxProblems }

// node records a problem at a node.
func (d *document) node(n *yaml.Node, message, hint string) { d.at(n.Line, n.Column, message, hint) }

// checkTree bounds the tree with all aliases followed, and refuses what no field
// of a flow file can hold. False means that the tree must not be walked.
func (d *document) checkTree(root *yaml.Node) bool {
	w := treeWalk{d: d, known: map[*yaml.Node]extent{}, open: map[*yaml.Node]bool{}}
	switch all := w.visit(root, 0); {
	case w.fatal:
		return false
	case all.size > MaxNodes:
		d.node(root, "the file's aliases unfold to too many values", fmt.Sprintf("at most %d are read", int(MaxNodes)))
		return false
	case all.text > MaxText:
		d.node(root, "the file's aliases unfold to too much text", fmt.Sprintf("at most %d bytes are read", MaxText))
		return false
	}
	return true
}

type treeWalk struct {
	d     *document
	known map[*yaml.Node]extent
	open  map[*yaml.Node]bool
	fatal bool
}

// extent is how large and how deep a node is, with aliases unfolded.
type extent struct {
	size   int // capped
	text   int // bytes of scalars; capped
	height int // levels of lists and maps
}

func (w *treeWalk) visit(n *yaml.Node, depth int) extent {
	if w.fatal {
		return extent{}
	}
	known, ok := w.known[n]
	if depth+known.height > MaxNesting {
		w.stop(n, "lists and maps are nested too deeply", fmt.Sprintf("at most %d levels are read", MaxNesting))
		return extent{}
	}
	if ok {
		return known
	}
	if n.Kind == yaml.AliasNode {
		if w.open[n.Alias] {
			w.stop(n, fmt.Sprintf("the alias *%s stands inside its own anchor", n.Value), "")
			return extent{}
		}
		return w.visit(n.Alias, depth)
	}
	w.open[n] = true
	defer delete(w.open, n)
	w.checkTag(n)
	if n.Kind == yaml.MappingNode {
		w.checkKeys(n)
	}
	sum := extent{size: 1, text: len(n.Value)}
	for _, child := range n.Content {
		e := w.visit(child, depth+1)
		sum = extent{min(sum.size+e.size, MaxNodes+1), min(sum.text+e.text, MaxText+1), max(sum.height, e.height+1)}
	}
	w.known[n] = sum
	return sum
}

func (w *treeWalk) stop(n *yaml.Node, message, hint string) {
	w.fatal = true
	w.d.node(n, message, hint)
}

func (w *treeWalk) checkTag(n *yaml.Node) {
	switch n.ShortTag() {
	case "!!str", "!!int", "!!float", "!!bool", "!!null", "!!map", "!!seq", "!!merge", "!!timestamp":
		return
	}
	w.d.node(n, fmt.Sprintf("the tag %s is not known here", clip(n.Tag)), "leave it out")
	n.Tag = "" // read on as if it were not there
}

func (w *treeWalk) checkKeys(n *yaml.Node) {
	first := map[string]*yaml.Node{}
	for i := 0; i+1 < len(n.Content) && !w.d.full(); i += 2 {
		key := n.Content[i]
		if key.Kind != yaml.ScalarNode {
			w.d.node(key, "a name must be plain text", "")
			continue
		}
		if before, ok := first[key.Value]; ok {
			w.d.node(key, fmt.Sprintf("%q is given twice", clip(key.Value)),
				fmt.Sprintf("it stands in line %d already", before.Line))
			continue
		}
		first[key.Value] = key
	}
}

// pair is one entry of a map.
type pair struct {
	key, value *yaml.Node
}

// pairs lists the entries of a map in file order, with merge keys (<<) unfolded
// behind them; the first of two equal keys wins, as YAML's merge has it.
func (d *document) pairs(n *yaml.Node) []pair {
	var out []pair
	taken := map[string]bool{}
	d.collect(n, taken, &out, 0)
	return out
}

func (d *document) collect(n *yaml.Node, taken map[string]bool, out *[]pair, depth int) {
	var merges []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch {
		case key.ShortTag() == "!!merge":
			merges = append(merges, value)
		case key.Kind == yaml.ScalarNode && !taken[key.Value]:
			taken[key.Value] = true
			*out = append(*out, pair{key, follow(value)})
		}
	}
	for _, value := range merges {
		sources := []*yaml.Node{follow(value)}
		if sources[0].Kind == yaml.SequenceNode {
			sources = sources[0].Content
		}
		for _, source := range sources {
			if source = follow(source); source.Kind == yaml.MappingNode && depth <= MaxNesting {
				d.collect(source, taken, out, depth+1)
			} else {
				d.node(value, "<< merges maps only", "give it an alias of a map")
			}
		}
	}
}

func follow(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool {
	return n.Kind == 0 || n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
}

// describe says in words what a node holds.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a map"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.ShortTag() {
	case "!!null":
		return "nothing"
	case "!!int", "!!float":
		return "number " + clip(n.Value)
	case "!!bool":
		return clip(n.Value)
	}
	return fmt.Sprintf("text %q", clip(n.Value))
}
