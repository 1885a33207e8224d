package lines

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"sort"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// ErrFormat says that an object does not hold what a Writer has written.
var ErrFormat = errors.New("not an object of lines, or a damaged one")

// maxIndex and maxBlock bound what is read at once, in bytes.
const (
	maxIndex = 16 << 20
	maxBlock = MaxValue + blockSize + 1
)

// decoders are shared, as the encoders are.
var decoders = sync.Pool{New: func() any {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(maxBlock))
	if err != nil {
		panic(err) // the options are constants
	}
	return d
}}

// ReadFunc reads length bytes of an object from offset on.
type ReadFunc func(ctx context.Context, offset, length int64) (io.ReadCloser, error)

// Reader reads the values of one object. Safe for use by many goroutines.
type Reader struct {
	read   ReadFunc
	total  int
	blocks []block
}

// block is where a block stands, and the number of its first value.
type block struct {
	offset, size int64
	first        int
}

// tail is how much of an object's end is read at first: most indexes fit.
const tail = 16 << 10

// Open reads the index of an object of this size in bytes. Errors: ErrFormat, and
// those of read.
func Open(ctx context.Context, read ReadFunc, size int64) (*Reader, error) {
	if size < footerSize {
		return nil, fmt.Errorf("%w: %d bytes", ErrFormat, size)
	}
	end, err := readAll(ctx, read, max(0, size-tail), min(size, tail))
	if err != nil {
		return nil, err
	}
	footer := end[len(end)-footerSize:]
	if string(footer[:len(magic)]) != magic {
		return nil, fmt.Errorf("%w: no footer", ErrFormat)
	}
	numbers := footer[len(magic):]
	start, length := order.Uint64(numbers), int64(order.Uint32(numbers[8:]))
	total, sum := order.Uint32(numbers[12:]), order.Uint32(numbers[16:])
	at := size - footerSize - length
	if length > maxIndex || at < 0 || start > uint64(at) {
		return nil, fmt.Errorf("%w: its footer makes no sense", ErrFormat)
	}
	var index []byte
	if length+footerSize <= int64(len(end)) {
		index = end[int64(len(end))-footerSize-length : len(end)-footerSize]
	} else if index, err = readAll(ctx, read, at, length); err != nil {
		return nil, err
	}
	if crc32.Checksum(index, castagnoli) != sum {
		return nil, fmt.Errorf("%w: its index has another checksum", ErrFormat)
	}
	r := &Reader{read: read}
	if err := r.parse(index, int64(start)); err != nil {
		return nil, err
	}
	if r.total != int(total) || r.end(int64(start)) != at {
		return nil, fmt.Errorf("%w: its index and its footer differ", ErrFormat)
	}
	return r, nil
}

func readAll(ctx context.Context, read ReadFunc, offset, length int64) ([]byte, error) {
	body, err := read(ctx, offset, length)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	data := make([]byte, length)
	if _, err := io.ReadFull(body, data); err != nil {
		return nil, short(err)
	}
	return data, nil
}

// short tells an object that ends too early from a failed read.
func short(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it is too short", ErrFormat)
	}
	return err
}

func (r *Reader) parse(index []byte, offset int64) error {
	for len(index) > 0 {
		size, n := binary.Uvarint(index)
		if n <= 0 {
			return fmt.Errorf("%w: its index", ErrFormat)
		}
		values, m := binary.Uvarint(index[n:])
		if m <= 0 || size > 2*maxBlock || values == 0 || values > maxBlock {
			return fmt.Errorf("%w: its index", ErrFormat)
		}
		index = index[n+m:]
		r.blocks = append(r.blocks, block{offset, int64(size), r.total})
		r.total += int(values)
		offset += int64(size)
	}
	return nil
}

// end is the offset behind the last block.
func (r *Reader) end(start int64) int64 {
	if len(r.blocks) == 0 {
		return start
	}
	last := r.blocks[len(r.blocks)-1]
	return last.offset + last.size
}

// Len is the number of values.
func (r *Reader) Len() int { return r.total }

// Values gives the values from number from, and before number to, with one read. A
// value is valid until the next one. Errors: ErrFormat, and those of read.
func (r *Reader) Values(ctx context.Context, from, to int) iter.Seq2[json.RawMessage, error] {
	return func(yield func(json.RawMessage, error) bool) {
		if from, to = max(from, 0), min(to, r.total); from >= to {
			return
		}
		// The last block that begins at or before from, the first that begins at or after to.
		i := sort.Search(len(r.blocks), func(i int) bool { return r.blocks[i].first > from }) - 1
		j := sort.Search(len(r.blocks), func(j int) bool { return r.blocks[j].first >= to })
		last := r.blocks[j-1]
		body, err := r.read(ctx, r.blocks[i].offset, last.offset+last.size-r.blocks[i].offset)
		if err != nil {
			yield(nil, err)
			return
		}
		defer body.Close()
		var packed, plain []byte
		for ; i < j; i++ {
			if plain, packed, err = r.unpack(body, i, plain[:0], packed); err != nil {
				yield(nil, err)
				return
			}
			if !r.give(plain, i, from, to, yield) {
				return
			}
		}
	}
}

// As decodes values.
func As[T any](values iter.Seq2[json.RawMessage, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for raw, err := range values {
			var v T
			if err == nil {
				err = json.Unmarshal(raw, &v)
			}
			if !yield(v, err) || err != nil {
				return
			}
		}
	}
}

// give passes on those of a block's values that are wanted.
func (r *Reader) give(plain []byte, i, from, to int, yield func(json.RawMessage, error) bool) bool {
	n := r.blocks[i].first
	for line := range bytes.Lines(plain) {
		if n >= from && n < to && !yield(bytes.TrimSuffix(line, []byte{'\n'}), nil) {
			return false
		}
		n++
	}
	if n != r.after(i) {
		yield(nil, fmt.Errorf("%w: a block has not as many values as its index says", ErrFormat))
		return false
	}
	return true
}

// after is the number of the value behind block i.
func (r *Reader) after(i int) int {
	if i+1 < len(r.blocks) {
		return r.blocks[i+1].first
	}
	return r.total
}

func (r *Reader) unpack(body io.Reader, i int, plain, packed []byte) (_, _ []byte, err error) {
	size := int(r.blocks[i].size)
	if cap(packed) < size {
		packed = make([]byte, size)
	}
	packed = packed[:size]
	if _, err := io.ReadFull(body, packed); err != nil {
		return nil, nil, short(err)
	}
	d := decoders.Get().(*zstd.Decoder)
	defer decoders.Put(d)
	if plain, err = d.DecodeAll(packed, plain); err != nil {
		return nil, nil, fmt.Errorf("%w: a block: %w", ErrFormat, err)
	}
	return plain, packed, nil
}
