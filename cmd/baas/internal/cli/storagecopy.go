package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"github.com/baas-batch/baas/storage"
)

func (p *Program) storageGet(ctx context.Context, s storage.Store, a storageArgs) (err error) {
	key, name := a.word(0), a.word(1)
	if name == "" {
		name = path.Base(key)
	}
	r, info, err := storage.GetParallel(ctx, s, key, 0, -1, storage.Parallel{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	bar := p.progress(info.Size)
	defer bar.end()
	if name == "-" {
		_, err = io.Copy(p.Stdout, io.TeeReader(r, bar))
		return err
	}
	// A file that is there, or a cut download, is never taken for the object.
	temp := name + ".part"
	file, err := os.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	n, err := io.Copy(file, io.TeeReader(r, bar))
	if err == nil && n != info.Size {
		err = fmt.Errorf("%s: %d bytes came, its size is %d", key, n, info.Size)
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(temp, name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return nil
}

func (p *Program) storagePut(ctx context.Context, s storage.Store, a storageArgs) error {
	name, key := a.word(0), a.word(1)
	if strings.HasSuffix(key, "/") && name != "-" {
		key += path.Base(name)
	}
	source, size := p.Stdin, int64(-1)
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return err
		}
		defer file.Close()
		info, err := file.Stat()
		if err != nil {
			return err
		}
		if info.IsDir() {
			return usagef("%s is a directory: put takes one file", name)
		}
		source, size = file, info.Size()
	}
	bar := p.progress(size)
	defer bar.end()
	_, err := s.Put(ctx, key, io.TeeReader(source, bar), storage.PutOptions{})
	return err
}

// storageCopy copies one object, or all below a prefix, to another key or store.
func (p *Program) storageCopy(ctx context.Context, s storage.Store, a storageArgs) (err error) {
	from, to, target := a.word(0), a.word(1), s
	if a.to != "" {
		if target, err = p.Parts.OpenStore(ctx, a.to); err != nil {
			return err
		}
		defer target.Close()
	} else if to == "" || to == from {
		return usagef("cp copies %s to itself: name another key, or another store with --to", from)
	}
	if to == "" {
		to = from
	}
	if !strings.HasSuffix(from, "/") {
		if strings.HasSuffix(to, "/") {
			to += path.Base(from)
		}
		info, err := s.Stat(ctx, from)
		if err != nil {
			return err
		}
		bar := p.progress(info.Size)
		defer bar.end()
		_, err = storage.Copy(ctx, s, from, target, to, bar.count)
		return err
	}
	if !strings.HasSuffix(to, "/") || a.to == "" && strings.HasPrefix(to, from) {
		return usagef("cp of all below %s needs another prefix that ends in /", from)
	}
	bar := p.progress(-1)
	defer bar.end()
	objects := 0
	for info, err := range storage.All(ctx, s, storage.ListOptions{Prefix: from}) {
		if err == nil {
			_, err = storage.Copy(ctx, s, info.Key, target, to+strings.TrimPrefix(info.Key, from), bar.count)
		}
		if err != nil {
			return err
		}
		objects++
	}
	bar.end()
	_, err = fmt.Fprintf(p.Stdout, "%s copied, %s\n", number(objects, "object"), bytesText(bar.done))
	return err
}

// progress tells how far a transfer is: on a terminal in one line, elsewhere in a
// line now and then.
type progress struct {
	p           *Program
	size, done  int64 // bytes; size below 0: nobody knows
	began, last time.Time
	shown       bool
}

const (
	progressOnScreen = 200 * time.Millisecond
	progressInLines  = 10 * time.Second
)

func (p *Program) progress(size int64) *progress {
	now := time.Now()
	return &progress{p: p, size: size, began: now, last: now}
}

// Write counts what passes a TeeReader.
func (b *progress) Write(p []byte) (int, error) {
	b.count(len(p))
	return len(p), nil
}

func (b *progress) count(n int) {
	b.done += int64(n)
	every := progressInLines
	if b.p.Terminal != nil {
		every = progressOnScreen
	}
	if now := time.Now(); now.Sub(b.last) >= every {
		b.last = now
		b.show(now)
	}
}

func (b *progress) show(now time.Time) {
	text := bytesText(b.done)
	if b.size > 0 {
		text = fmt.Sprintf("%s of %s, %d %%", text, bytesText(b.size), 100*b.done/b.size)
	}
	text += fmt.Sprintf(", %s/s", bytesText(int64(float64(b.done)/max(now.Sub(b.began).Seconds(), 0.001))))
	if b.p.Terminal == nil {
		fmt.Fprintln(b.p.Stderr, text)
		return
	}
	fmt.Fprintf(b.p.Stderr, "\r\x1b[K%s", text)
	b.shown = true
}

// end clears the line.
func (b *progress) end() {
	if b.shown {
		fmt.Fprint(b.p.Stderr, "\r\x1b[K")
		b.shown = false
	}
}
