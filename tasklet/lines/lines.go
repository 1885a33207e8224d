// Package lines keeps many JSON values in one object so that a part of them can be
// read without the rest: items of partitions, results in segments, manifests.
//
// The values stand one a line in blocks, each compressed by itself (zstd, RFC 8878).
// An index of the blocks follows, and a footer of fixed size, which says where all
// this begins: other bytes may stand before it.
package lines

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// blockSize is how many bytes of JSON make a block full.
const blockSize = 64 << 10

// MaxValue bounds one value as JSON, in bytes.
const MaxValue = 16 << 20

// The footer: magic, offset of the first block, length of the index, number of
// values, checksum of the index (CRC-32, Castagnoli). Numbers are big endian.
const (
	magic      = "BAASL\x001\n"
	footerSize = 8 + 8 + 4 + 4 + 4
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	order      = binary.BigEndian
)

// encoders are shared: each takes some hundred kilobytes.
var encoders = sync.Pool{New: func() any {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(2*blockSize))
	if err != nil {
		panic(err) // the options are constants
	}
	return e
}}

// Writer writes values. It keeps one block in memory.
type Writer struct {
	w      io.Writer
	start  int64 // of the first block in the object
	size   int64 // written so far
	block  bytes.Buffer
	values int // in the block
	total  int
	index  []byte // for each block the size and the number of values, as uvarints
	packed []byte
	err    error
}

// NewWriter writes to w, at whose place the object has offset bytes already.
func NewWriter(w io.Writer, offset int64) *Writer {
	return &Writer{w: w, start: offset}
}

// Add writes one value. The first error sticks.
func (w *Writer) Add(v any) error {
	if w.err != nil {
		return w.err
	}
	line, err := json.Marshal(v)
	if err != nil {
		return err // of this value only
	}
	if len(line) > MaxValue {
		return fmt.Errorf("lines: a value of %d bytes, at most %d are possible", len(line), MaxValue)
	}
	if w.values > 0 && w.block.Len()+len(line) >= blockSize {
		w.flush()
	}
	w.block.Write(line)
	w.block.WriteByte('\n')
	w.values++
	w.total++
	return w.err
}

func (w *Writer) flush() {
	if w.values == 0 {
		return
	}
	e := encoders.Get().(*zstd.Encoder)
	w.packed = e.EncodeAll(w.block.Bytes(), w.packed[:0])
	encoders.Put(e)
	w.index = binary.AppendUvarint(w.index, uint64(len(w.packed)))
	w.index = binary.AppendUvarint(w.index, uint64(w.values))
	w.write(w.packed)
	w.block.Reset()
	w.values = 0
}

func (w *Writer) write(data []byte) {
	if w.err == nil {
		var n int
		n, w.err = w.w.Write(data)
		w.size += int64(n)
	}
}

// Len is the number of values so far.
func (w *Writer) Len() int { return w.total }

// Close writes what is left, the index and the footer, and gives the size of the
// object, with what stood before. It does not close the underlying writer.
func (w *Writer) Close() (size int64, err error) {
	w.flush()
	footer := make([]byte, 0, footerSize)
	footer = append(footer, magic...)
	footer = order.AppendUint64(footer, uint64(w.start))
	footer = order.AppendUint32(footer, uint32(len(w.index)))
	footer = order.AppendUint32(footer, uint32(w.total))
	footer = order.AppendUint32(footer, crc32.Checksum(w.index, castagnoli))
	w.write(w.index)
	w.write(footer)
	return w.start + w.size, w.err
}
