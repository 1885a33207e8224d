package flow

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common"
	"github.com/google/cel-go/common/operators"
)

// syntaxFaults gives the first mistake: the parser's later ones follow from it.
func syntaxFaults(source string, issues *cel.Issues) []fault {
	e := issues.Errors()[0]
	message, _, _ := strings.Cut(strings.TrimPrefix(e.Message, "Syntax error: "), " expecting ")
	switch {
	case strings.Contains(message, "<EOF>"):
		message = "the expression ends too soon"
	case strings.Contains(message, "recursion"):
		message = "the expression is nested too deeply"
	default:
		message = "in the expression: " + clip(parserWords.Replace(spaceInQuotes.ReplaceAllString(message, "'$1'")))
	}
	hint := ""
	switch {
	case wordOperator.MatchString(source), singleOperator.MatchString(source):
		hint = "and is written &&, or is ||, not is !"
	case singleEquals.MatchString(source):
		hint = "equality is written =="
	}
	return []fault{{locationOffset(source, e.Location), message, hint}}
}

var (
	spaceInQuotes  = regexp.MustCompile(`'(\S+)\s+'`)
	wordOperator   = regexp.MustCompile(`\s(and|or)\s|(^|\s)not\s`)
	singleOperator = regexp.MustCompile(`[^&]&[^&]|[^|]\|[^|]`)
	singleEquals   = regexp.MustCompile(`[^=!<>]=[^=]`)
	parserWords    = strings.NewReplacer("extraneous input", "unexpected", "mismatched input", "unexpected",
		"token recognition error at: ", "unexpected ", "no viable alternative at input", "unexpected")
)

var (
	undeclared = regexp.MustCompile(`^undeclared reference to '([^']*)'`)
	noOverload = regexp.MustCompile(`^found no matching overload for '([^']*)' applied to '(.*)'$`)
	noField    = regexp.MustCompile(`^undefined field '([^']*)'$`)
)

// typeFaults puts the type checker's errors into the words of the language.
func (c *checker) typeFaults(source string, issues *cel.Issues, at site) []fault {
	var out []fault
	for _, e := range issues.Errors() {
		f := c.typeFault(e.Message, at)
		f.offset = locationOffset(source, e.Location)
		out = append(out, f)
	}
	return out
}

func (c *checker) typeFault(message string, at site) fault {
	if m := undeclared.FindStringSubmatch(message); m != nil {
		return fault{message: fmt.Sprintf("unknown name %q", clip(m[1])), hint: c.unknownNameHint(m[1], at)}
	}
	if m := noField.FindStringSubmatch(message); m != nil && contained(fileFields, m[1]) {
		return fault{message: fmt.Sprintf("unknown field %q", m[1]), hint: "a directory has " + join(dirFields)}
	} else if m != nil {
		return fault{message: fmt.Sprintf("unknown field %q", clip(m[1])), hint: didYouMean(m[1], fileFields)}
	}
	if m := noOverload.FindStringSubmatch(message); m != nil {
		return operandFault(m[1], typeWords(m[2]))
	}
	return fault{message: "in the expression: " + typeWords(message)}
}

func (c *checker) unknownNameHint(name string, at site) string {
	for _, p := range c.flow.Params {
		if p.Name == name {
			return "write params." + name
		}
	}
	for _, id := range c.stepNames(at.onExit) {
		if id == name {
			return fmt.Sprintf("write steps.%s.outputs.<name>", name)
		}
	}
	return didYouMean(name, append(append([]string{}, functionNames...), variableNames...))
}

// operandFault words a call whose arguments have the wrong types: "int + string",
// or "size(int)", "string.split(int)".
func operandFault(function, signature string) fault {
	target, args, isMethod := strings.Cut(signature, ".(")
	if !isMethod {
		args = strings.TrimPrefix(signature, "(")
	}
	args = strings.TrimSuffix(args, ")")
	switch left, right, _ := strings.Cut(strings.TrimPrefix(args, "bool, "), ", "); function {
	case operators.Conditional:
		return fault{message: fmt.Sprintf("the two results of ?: must be of one type, they are %s and %s", left, right)}
	case operators.Index:
		return fault{message: fmt.Sprintf("[ ] cannot be used on %s with %s", left, right)}
	}
	if display, ok := operators.FindReverseBinaryOperator(function); ok || function == operators.In {
		if function == operators.In {
			display = "in"
		}
		return binaryFault(display, args)
	}
	if display, ok := operators.FindReverse(function); ok && display != "" {
		return fault{message: fmt.Sprintf("%s cannot be used with %s", display, args)}
	}
	call := fmt.Sprintf("%s(%s)", function, args)
	if isMethod {
		call = target + "." + call
	}
	return fault{message: "there is no " + call, hint: didYouMeanMethod(function)}
}

func binaryFault(operator, args string) fault {
	f := fault{message: fmt.Sprintf("%s cannot be used between %s", operator, strings.Replace(args, ", ", " and ", 1))}
	left, right, _ := strings.Cut(args, ", ")
	switch {
	case operator == "+" && (left == "string" && plainWord(right) || right == "string" && plainWord(left)):
		f.hint = "make text of the other side with string(…)"
	case left == "int" && right == "float":
		f.hint = "make a float of the left side with double(…)"
	case left == "float" && right == "int":
		f.hint = "make a float of the right side with double(…), or write 1.0 for 1"
	}
	return f
}

func plainWord(t string) bool {
	return t == "int" || t == "float" || t == "bool" || t == "time" || t == "duration"
}

func didYouMeanMethod(name string) string {
	if contained(functionNames, name) {
		return ""
	}
	return didYouMean(name, functionNames)
}

var typeWord = strings.NewReplacer(
	"google.protobuf.Timestamp", "time", "google.protobuf.Duration", "duration", "timestamp", "time",
	"double", "float", "list(dyn)", "list", "map(string, dyn)", "map", "dyn", "any", "list(@file)", "files", "@file", "file", "@directory", "directory",
)

func typeWords(s string) string { return typeWord.Replace(s) }

// locationOffset turns a line (from 1) and column (from 0, in characters) of an
// expression into a byte offset.
func locationOffset(source string, at common.Location) int {
	offset := 0
	for line := 1; line < at.Line(); line++ {
		i := strings.IndexByte(source[offset:], '\n')
		if i < 0 {
			break
		}
		offset += i + 1
	}
	return offset + byteOffset(source[offset:], at.Column())
}

// byteOffset turns a number of characters into one of bytes.
func byteOffset(s string, runes int) int {
	for i := range s {
		if runes == 0 {
			return i
		}
		runes--
	}
	return len(s)
}
