package tree

import (
	"errors"
	"io"

	"github.com/klauspost/compress/zstd"
)

// Memory bounds of zstd, in bytes: executors are small.
const (
	encoderWindow = 1 << 20
	decoderWindow = 32 << 20
)

func compressor(w io.Writer) (*zstd.Encoder, error) {
	return zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(encoderWindow), zstd.WithAllLitEntropyCompression(true))
}

func decompressor(r io.Reader) (*zstd.Decoder, error) {
	return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(decoderWindow))
}

// Compress writes what r holds with zstd.
func Compress(w io.Writer, r io.Reader) error {
	z, err := compressor(w)
	if err != nil {
		return err
	}
	_, err = io.Copy(z, r)
	return errors.Join(err, z.Close())
}

// Decompress writes what Compress has read, of at most size bytes. What is not of
// that kind is an *Error.
func Decompress(w io.Writer, r io.Reader, size int64) error {
	z, err := decompressor(r)
	if err != nil {
		return bad("no zstd: %v", err)
	}
	defer z.Close()
	sink := &Sink{W: w}
	n, err := io.Copy(sink, io.LimitReader(z, size+1))
	switch {
	case sink.Err != nil:
		return sink.Err
	case err != nil:
		return bad("no zstd: %v", err)
	case n > size:
		return bad("more than %d bytes unpacked", size)
	}
	return nil
}
