package executor

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestRedactedForms(t *testing.T) {
	const value = `p&ss "wörd"/<1>`
	long := strings.Repeat("0123456789abcdef", 100)
	pem := "-----BEGIN KEY-----\nMIIEvgIBADANBgkqhkiG\n9w0BAQEFAASCBKgwggSk\n-----END KEY-----\n"
	r := newRedactor(map[string][]byte{"A": []byte(value), "LONG": []byte(long), "PEM": []byte(pem), "PIN": []byte("123")})
	inJSON, err := json.Marshal(map[string]string{"x": value})
	if err != nil {
		t.Fatal(err)
	}
	var plainJSON bytes.Buffer
	encoder := json.NewEncoder(&plainJSON)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		t.Fatal(err)
	}
	std := base64.StdEncoding
	for name, text := range map[string]string{
		"value":            value,
		"base64":           std.EncodeToString([]byte(value)),
		"base64 of a line": std.EncodeToString([]byte(value + "\n")),
		"basic auth":       std.EncodeToString([]byte("user:" + value)),
		"basic auth 2":     std.EncodeToString([]byte("users:" + value + " more")),
		"base64 for URLs":  base64.URLEncoding.EncodeToString([]byte(value)),
		"query":            url.QueryEscape(value),
		"path":             url.PathEscape(value),
		"lower case":       strings.NewReplacer("%2F", "%2f", "%C3%B6", "%c3%b6", "%3C", "%3c", "%3E", "%3e").Replace(url.QueryEscape(value)),
		"JSON":             string(inJSON),
		"JSON, plain":      plainJSON.String(),
		"long":             long,
		"PEM":              pem,
		"PEM, indented":    strings.ReplaceAll(pem, "\n", "\n    "),
	} {
		got := r.text("before " + text + " after")
		if !strings.HasPrefix(got, "before ") || !strings.HasSuffix(got, " after") || !strings.Contains(got, redacted) {
			t.Errorf("%s: %q", name, got)
		}
		// What the encoding shares with its neighbours may stay: 2 characters at each end.
		for i := 3; i+8 < len(text) && !strings.Contains(name, "JSON") && !strings.Contains(name, "basic") && !strings.Contains(name, "PEM"); i++ {
			if strings.Contains(got, text[i:i+6]) {
				t.Errorf("%s: %q still has %q", name, got, text[i:i+6])
				break
			}
		}
		if !r.finds([]byte(text)) {
			t.Errorf("%s: not found", name)
		}
	}
	if got := r.text("pin 123"); got != "pin 123" {
		t.Errorf("a value of 3 bytes is redacted: %q", got)
	}
	if newRedactor(map[string][]byte{"PIN": []byte("123")}) != nil {
		t.Error("a redactor with nothing to do")
	}
}

// Shells with -x and programs that print their configuration quote what they show.
func TestRedactedQuotes(t *testing.T) {
	const value = "it's \"a\" \\b & more"
	r := newRedactor(map[string][]byte{"A": []byte(value)})
	for name, text := range map[string]string{
		"bash": `'it'\''s "a" \b & more'`, "dash": `'it'"'"'s "a" \b & more'`,
		"bash, ANSI": `$'it\'s "a" \\b & more'`, "backslashes": `it's "a" \\b & more`,
	} {
		if got := r.text("x=" + text + " after"); !strings.Contains(got, redacted) || strings.Contains(got, "more") || strings.Contains(got, "it") {
			t.Errorf("%s: %q", name, got)
		}
	}
	for _, shell := range []string{"dash", "bash"} {
		path, err := exec.LookPath(shell)
		if err != nil {
			continue // the forms above are what it writes
		}
		cmd := exec.Command(path, "-xc", `: "$A"`)
		cmd.Env = []string{"A=" + value, "PATH=" + os.Getenv("PATH")}
		traced, err := cmd.CombinedOutput()
		if got := r.text(string(traced)); err != nil || !strings.Contains(got, redacted) || strings.Contains(got, "more") {
			t.Errorf("%s writes %q, and shown is %q, %v", shell, traced, got, err)
		}
	}
}

// The end of base64 that is shared with a user name must not give the value away.
func TestBasicAuth(t *testing.T) {
	r := newRedactor(map[string][]byte{"A": []byte("correct-horse")})
	for _, user := range []string{"a", "ab", "abc"} {
		got := r.text(base64.StdEncoding.EncodeToString([]byte(user + ":correct-horse")))
		decoded, _ := base64.StdEncoding.DecodeString(strings.ReplaceAll(got, redacted, ""))
		if strings.Contains(string(decoded), "orrect") || strings.Contains(string(decoded), "hors") {
			t.Errorf("%s gives %q", got, decoded)
		}
	}
}

// However the stream is cut, what comes out is the same, and holds no secret.
func TestRedactedStream(t *testing.T) {
	values := map[string][]byte{
		"A": []byte("abcd"), "B": []byte("abcdefgh"), "C": []byte("cdabcd"), "D": []byte("aaaaaaaa"),
		"E": []byte(strings.Repeat("long secret ", 60)),
	}
	r := newRedactor(values)
	dice := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		var text strings.Builder
		for range 30 {
			switch dice.IntN(3) {
			case 0:
				v := values[string(rune('A'+dice.IntN(5)))]
				text.Write(v[:1+dice.IntN(len(v))])
			default:
				fmt.Fprintf(&text, "%.*s", dice.IntN(9), "xabcdaaaa")
			}
		}
		want := r.text(text.String())
		if r.finds([]byte(want)) {
			t.Fatalf("%q still holds a secret: %q", text.String(), want)
		}
		var got strings.Builder
		w := &redactingWriter{r: r, w: &got}
		for rest := text.String(); rest != ""; {
			n := 1 + dice.IntN(min(len(rest), 40))
			if _, err := io.WriteString(w, rest[:n]); err != nil {
				t.Fatal(err)
			}
			if len(w.held) >= 2*piece {
				t.Fatalf("%d bytes are held back", len(w.held))
			}
			rest = rest[n:]
		}
		w.flush()
		if got.String() != want {
			t.Fatalf("cut up: %q\n whole: %q", got.String(), want)
		}
	}
}

// What cannot be part of a secret is not held back: people follow the log.
func TestNothingHeldBack(t *testing.T) {
	var got strings.Builder
	w := &redactingWriter{r: newRedactor(map[string][]byte{"A": []byte("hunter2")}), w: &got}
	for _, step := range []struct{ write, want string }{
		{"a line\n", "a line\n"}, {"hun", "a line\n"}, {"gry\n", "a line\nhungry\n"}, {"hunter2", "a line\nhungry\n***"},
	} {
		if _, err := io.WriteString(w, step.write); err != nil {
			t.Fatal(err)
		}
		if got.String() != step.want {
			t.Errorf("after %q: %q, want %q", step.write, got.String(), step.want)
		}
	}
}

func FuzzRedact(f *testing.F) {
	f.Add([]byte("hunter2"), []byte("hunter2 and hunter"), 3)
	f.Add([]byte("aaaa"), []byte("aaaaaaaaaaaaa"), 1)
	f.Fuzz(func(t *testing.T, value, text []byte, cut int) {
		r := newRedactor(map[string][]byte{"A": value})
		if r == nil || cut < 1 {
			return
		}
		var got bytes.Buffer
		w := &redactingWriter{r: r, w: &got}
		for rest := text; len(rest) > 0; {
			n := min(cut, len(rest))
			_, _ = w.Write(rest[:n])
			rest = rest[n:]
		}
		w.flush()
		if want := r.text(string(text)); got.String() != want {
			t.Errorf("cut into %d: %q, whole: %q", cut, got.String(), want)
		}
		if !r.finds(text) && !bytes.Equal(got.Bytes(), text) {
			t.Errorf("%q became %q", text, got.Bytes())
		}
	})
}

func BenchmarkRedact(b *testing.B) {
	values := map[string][]byte{}
	for i := range 20 {
		values[fmt.Sprint(i)] = []byte(fmt.Sprintf("s3cr3t-%d-%x", i, i*7919*7919*7919))
	}
	line := []byte("2026-01-02T03:04:05Z INFO statement 1234567 of account 89-12 rendered in 12.5 ms, 3 pages\n")
	repeated := []byte(strings.Repeat("a", 64<<10))
	for _, c := range []struct {
		name   string
		values map[string][]byte
		line   []byte
	}{
		{"none", nil, line}, {"20 secrets", values, line}, {"worst", map[string][]byte{"A": repeated}, repeated[:100]},
	} {
		b.Run(c.name, func(b *testing.B) {
			chunk := bytes.Repeat(c.line, 32<<10/len(c.line))
			var w io.Writer = io.Discard
			if r := newRedactor(c.values); r != nil {
				w = &redactingWriter{r: r, w: io.Discard}
			}
			b.SetBytes(int64(len(chunk)))
			for b.Loop() {
				_, _ = w.Write(chunk)
			}
		})
	}
}
