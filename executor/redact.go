package executor

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"io"
	"net/url"
	"slices"
	"strings"
)

// redactor finds secrets in what a task tells the world: the values themselves and
// their base64, URL, JSON and quoted forms. It is no defence against a task that wants to
// give its secrets away, but catches the `set -x`, the verbose client and the
// printed configuration.
type redactor struct {
	filter  [1 << 10]uint64     // of the first 4 bytes of all patterns, hashed to 16 bits
	heads   map[uint32][][]byte // patterns by their first 4 bytes
	starts  map[string]bool     // the first 1, 2 and 3 bytes of all patterns
	longest int
}

const (
	// minRedacted is the length from which on values are looked for, in bytes: a
	// shorter one is everywhere.
	minRedacted = 4
	// piece is what long values are cut into, in bytes. Each is looked for by
	// itself, so a value cut short is found too, and what one position costs and
	// what is held back are bounded.
	piece = 256

	redacted = "***"
)

// newRedactor gives nil when there is nothing to look for.
func newRedactor(values map[string][]byte) *redactor {
	r := &redactor{heads: map[uint32][][]byte{}, starts: map[string]bool{}}
	known := map[string]bool{}
	for _, value := range values {
		for _, form := range forms(value) {
			for _, p := range pieces(form) {
				if !known[string(p)] {
					known[string(p)] = true
					r.add(p)
				}
			}
		}
	}
	if r.longest == 0 {
		return nil
	}
	return r
}

func (r *redactor) add(p []byte) {
	head := binary.LittleEndian.Uint32(p)
	h := headHash(head)
	r.filter[h>>6] |= 1 << (h & 63)
	r.heads[head] = append(r.heads[head], p)
	for n := 1; n < minRedacted; n++ {
		r.starts[string(p[:n])] = true
	}
	r.longest = max(r.longest, len(p))
}

func headHash(v uint32) uint32 { return v * 2654435761 >> 16 }

// pieces cuts what is long; the last piece takes the rest.
func pieces(p []byte) (out [][]byte) {
	for len(p) >= 2*piece {
		out = append(out, p[:piece])
		p = p[piece:]
	}
	return append(out, p)
}

// forms gives what a value may look like.
func forms(value []byte) [][]byte {
	var out [][]byte
	add := func(p []byte, least int) {
		if len(p) >= least {
			out = append(out, p)
		}
	}
	trimmed := bytes.TrimSpace(value)
	add(value, minRedacted)
	add(trimmed, minRedacted)
	if lines := bytes.Split(trimmed, []byte("\n")); len(lines) > 1 {
		for _, line := range lines { // of a PEM file, say, that is shown with an indent
			add(bytes.TrimSpace(line), 2*minRedacted)
		}
	}
	if len(trimmed) < minRedacted {
		return out
	}
	for _, e := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		out = append(out, base64Forms(e, trimmed)...)
	}
	for _, escaped := range []string{url.QueryEscape(string(trimmed)), url.PathEscape(string(trimmed))} {
		add([]byte(escaped), minRedacted)
		add([]byte(lowerEscapes(escaped)), minRedacted)
	}
	add(jsonForm(trimmed, true), minRedacted)
	add(jsonForm(trimmed, false), minRedacted)
	for _, quoted := range quotes {
		add([]byte(quoted.Replace(string(trimmed))), minRedacted)
	}
	return out
}

// quotes write what stands between quotes as shells with -x do, and as many programs
// show text.
var quotes = []*strings.Replacer{
	strings.NewReplacer(`'`, `'\''`),
	strings.NewReplacer(`'`, `'"'"'`),
	strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\r", `\r`, "\t", `\t`),
	strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\r", `\r`, "\t", `\t`, `'`, `\'`),
}

// base64Forms gives the characters that depend on the value alone, whatever comes
// before it (a user name and a colon, say) and after it (a newline), and the lines
// that encoders break long text into.
func base64Forms(e *base64.Encoding, value []byte) (out [][]byte) {
	for shift := range 3 {
		shifted := append(make([]byte, shift), value...)
		text := []byte(e.EncodeToString(shifted))
		text = text[(shift*8+5)/6 : len(shifted)*8/6]
		least := minRedacted
		if shift > 0 {
			least = 6
		}
		if len(text) >= least {
			out = append(out, text)
		}
		for _, width := range []int{64, 76} {
			if shift > 0 || len(text) <= width {
				continue
			}
			for line := range slices.Chunk(text, width) {
				if len(line) >= 2*minRedacted {
					out = append(out, line)
				}
			}
		}
	}
	return out
}

// lowerEscapes writes %2F as %2f.
func lowerEscapes(s string) string {
	b := []byte(s)
	for i := 0; i+2 < len(b); i++ {
		if b[i] == '%' {
			copy(b[i+1:i+3], strings.ToLower(s[i+1:i+3]))
		}
	}
	return string(b)
}

// jsonForm gives a value as it stands within a JSON text.
func jsonForm(value []byte, escapeHTML bool) []byte {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(escapeHTML)
	if encoder.Encode(string(value)) != nil {
		return nil
	}
	return bytes.Trim(b.Bytes(), "\"\n")
}

// next gives the first position from i on at which a pattern may begin.
func (r *redactor) next(b []byte, i int) int {
	for ; i+minRedacted <= len(b); i++ {
		h := headHash(binary.LittleEndian.Uint32(b[i:]))
		if r.filter[h>>6]&(1<<(h&63)) != 0 {
			return i
		}
	}
	for ; i < len(b); i++ {
		if r.starts[string(b[i:])] {
			return i
		}
	}
	return i
}

// at gives the length of the longest pattern that b begins with, and whether more
// bytes could make it longer.
func (r *redactor) at(b []byte) (n int, more bool) {
	if len(b) < minRedacted {
		return 0, r.starts[string(b)]
	}
	for _, p := range r.heads[binary.LittleEndian.Uint32(b)] {
		switch {
		case len(p) <= len(b) && bytes.Equal(p, b[:len(p)]):
			n = max(n, len(p))
		case len(p) > len(b) && bytes.Equal(p[:len(b)], b):
			more = true
		}
	}
	return n, more
}

// text gives s without secrets. A nil redactor changes nothing.
func (r *redactor) text(s string) string {
	if r == nil {
		return s
	}
	var b strings.Builder
	w := &redactingWriter{r: r, w: &b}
	_, _ = w.Write([]byte(s))
	w.flush()
	return b.String()
}

// finds tells whether there is a secret in b.
func (r *redactor) finds(b []byte) bool {
	if r == nil {
		return false
	}
	for i := r.next(b, 0); i < len(b); i = r.next(b, i+1) {
		if n, _ := r.at(b[i:]); n > 0 {
			return true
		}
	}
	return false
}

// redactingWriter replaces secrets in a stream, also those that come in several
// writes. It holds back what may be the beginning of one: less than two pieces.
type redactingWriter struct {
	r     *redactor
	w     io.Writer
	held  []byte
	out   []byte
	cover int // how many of the next bytes belong to a secret that was found
}

func (w *redactingWriter) Write(p []byte) (int, error) {
	w.held = append(w.held, p...)
	return len(p), w.drain(false)
}

// flush passes on what is held back; nothing follows.
func (w *redactingWriter) flush() { _ = w.drain(true) }

func (w *redactingWriter) drain(final bool) error {
	b, i := w.held, 0
	w.out = w.out[:0]
	for i < len(b) {
		n, more := w.r.at(b[i:])
		if more && !final {
			break
		}
		if n > w.cover { // what overlaps is one secret, for all that can be seen
			if w.cover == 0 {
				w.out = append(w.out, redacted...)
			}
			w.cover = n
		}
		if w.cover > 0 {
			w.cover--
			i++
			continue
		}
		end := w.r.next(b, i+1)
		w.out = append(w.out, b[i:end]...)
		i = end
	}
	w.held = append(w.held[:0], b[i:]...)
	_, err := w.w.Write(w.out)
	return err
}
