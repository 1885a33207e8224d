package mesos

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// maxRecord bounds one record of the event stream, in bytes. mesos-go's own
// reader stops at 4 MiB, which the OFFERS of some thousand agents pass.
const maxRecord = 256 << 20

const largeRecord = 4 << 20

var errRecord = errors.New("malformed record in the event stream")

// recordReader reads records framed as Mesos frames them: the length in decimal,
// a line feed, the bytes. It is a framing.Reader of mesos-go.
type recordReader struct {
	in  *bufio.Reader
	buf bytes.Buffer
}

func newRecordReader(r io.Reader) *recordReader {
	return &recordReader{in: bufio.NewReaderSize(r, 64<<10)}
}

// ReadFrame gives the next record; it is valid until the next call. io.EOF means
// that the stream ended between two records, io.ErrUnexpectedEOF within one.
func (r *recordReader) ReadFrame() ([]byte, error) {
	n, err := r.length()
	if err != nil {
		return nil, err
	}
	r.buf.Reset()
	if r.buf.Cap() > largeRecord && n < largeRecord {
		r.buf = bytes.Buffer{} // one large record is no reason to hold its memory
	}
	// The buffer grows with what arrives, not with what the length claims.
	if _, err := io.CopyN(&r.buf, r.in, int64(n)); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return r.buf.Bytes(), nil
}

// length reads lengths until one is not zero.
func (r *recordReader) length() (uint64, error) {
	for {
		line, err := r.in.ReadSlice('\n')
		if err != nil {
			switch {
			case errors.Is(err, bufio.ErrBufferFull):
				return 0, fmt.Errorf("%w: no length", errRecord)
			case errors.Is(err, io.EOF) && len(line) > 0:
				err = io.ErrUnexpectedEOF
			}
			return 0, err
		}
		n, err := strconv.ParseUint(string(bytes.TrimSpace(line)), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%w: length %.20q", errRecord, line)
		}
		if n > maxRecord {
			return 0, fmt.Errorf("%w: %d bytes, at most %d", errRecord, n, maxRecord)
		}
		if n > 0 {
			return n, nil
		}
	}
}
