package mesos

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"
)

// allowance is what a reader may hold beyond the bytes that have arrived.
const allowance = 8 << 10

// FuzzRecordReader: whatever arrives, the reader gives what a second, simpler
// reading of the same bytes gives, and holds no memory for bytes that only a
// length claims.
func FuzzRecordReader(f *testing.F) {
	for _, seed := range []string{
		"", "5\nhello", "0\n0\n2\nhi3\nyou", "12", "5\nhel", "x\n", "-1\n", "99999999999\n", " 3 \nabc", strings.Repeat("1", 100),
		"268435456\nx", "268435457\nx", "18446744073709551616\n", "007\nagents!", "3\r\nabc", "\n", "1_0\n0123456789", "+1\na", "0x1\na",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		want, wantErr := records(data)
		r := newRecordReader(bytes.NewReader(data))
		for _, record := range want {
			got, err := r.ReadFrame()
			if err != nil || !bytes.Equal(got, record) {
				t.Fatalf("%q: record %q, %v; want %q", data, got, err, record)
			}
		}
		if got, err := r.ReadFrame(); !errors.Is(err, wantErr) {
			t.Fatalf("%q: ends with %q, %v; want %v", data, got, err, wantErr)
		}
		if have := r.buf.Cap(); have > 4*len(data)+allowance {
			t.Fatalf("holds %d bytes for %d that arrived", have, len(data))
		}
	})
}

// records reads all records of data, and tells what ends them.
func records(data []byte) (all [][]byte, end error) {
	for len(data) > 0 {
		line, rest, found := bytes.Cut(data, []byte("\n"))
		switch {
		case len(line) >= 64<<10:
			return all, errRecord
		case !found:
			return all, io.ErrUnexpectedEOF
		}
		digits := strings.TrimSpace(string(line))
		n, err := strconv.ParseUint(digits, 10, 64)
		switch {
		case err != nil || n > maxRecord:
			return all, errRecord
		case n > uint64(len(rest)):
			return all, io.ErrUnexpectedEOF
		case n > 0:
			all = append(all, rest[:n])
		}
		data = rest[n:]
	}
	return all, io.EOF
}

// FuzzRecordRoundTrip: what was written as records is read as the same records,
// in whatever portions it arrives; cut short, the whole records before the cut
// come out, and then the error that tells a cut from an end.
func FuzzRecordRoundTrip(f *testing.F) {
	f.Add([]byte("hello, world"), []byte{5, 2, 0, 5}, []byte{1}, 100)
	f.Add([]byte("\n1\n2\n"), []byte{1, 1, 3}, []byte{2, 3}, 4)
	f.Add(bytes.Repeat([]byte("0123456789"), 7_000), []byte{255, 254}, []byte{255}, 65_536)
	f.Fuzz(func(t *testing.T, data, sizes, portions []byte, cut int) {
		var stream bytes.Buffer
		var want [][]byte
		var ends []int
		for i := 0; len(data) > 0; i++ {
			n := len(data)
			if i < len(sizes) {
				n = min(n, int(sizes[i])*int(sizes[i])) // up to 65,025: also longer than a buffer
			}
			stream.WriteString(strconv.Itoa(n) + "\n")
			stream.Write(data[:n])
			if n > 0 {
				want, ends = append(want, data[:n]), append(ends, stream.Len())
			}
			data = data[n:]
		}
		readAll(t, &portioned{data: stream.Bytes(), sizes: portions}, want, io.EOF)
		if cut < 0 || cut >= stream.Len() {
			return
		}
		whole := 0
		for whole < len(ends) && ends[whole] <= cut {
			whole++
		}
		_, end := records(stream.Bytes()[:cut])
		readAll(t, &portioned{data: stream.Bytes()[:cut], sizes: portions}, want[:whole], end)
	})
}

func readAll(t *testing.T, in io.Reader, want [][]byte, end error) {
	t.Helper()
	r := newRecordReader(in)
	for i, record := range want {
		if got, err := r.ReadFrame(); err != nil || !bytes.Equal(got, record) {
			t.Fatalf("record %d of %d: %.40q, %v; want %.40q", i, len(want), got, err, record)
		}
	}
	if got, err := r.ReadFrame(); !errors.Is(err, end) {
		t.Fatalf("after %d records: %.40q, %v; want %v", len(want), got, err, end)
	}
}

// portioned gives its bytes in portions of the given sizes, again and again.
type portioned struct {
	data  []byte
	sizes []byte
	next  int
}

// Read implements io.Reader.
func (p *portioned) Read(b []byte) (int, error) {
	if len(p.data) == 0 {
		return 0, io.EOF
	}
	n := len(b)
	if len(p.sizes) > 0 {
		n = min(n, 1+int(p.sizes[p.next%len(p.sizes)]))
		p.next++
	}
	n = copy(b[:n], p.data)
	p.data = p.data[n:]
	return n, nil
}
