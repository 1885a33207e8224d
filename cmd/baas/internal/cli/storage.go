package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	urfave "github.com/urfave/cli/v2"

	"github.com/baas-batch/baas/cmd/baas/internal/screen"
	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/retention"
	"github.com/baas-batch/baas/storage"
)

// storageVerbs are the words after `baas storage`, each with what follows it.
var storageVerbs = map[string]struct {
	least, most int // arguments
	usage       string
	do          func(*Program, context.Context, storage.Store, storageArgs) error
}{
	"ls":    {0, 1, "ls [PREFIX]", (*Program).storageList},
	"du":    {0, 1, "du [PREFIX]", (*Program).storageUse},
	"get":   {1, 2, "get KEY [FILE]", (*Program).storageGet},
	"put":   {2, 2, "put FILE KEY", (*Program).storagePut},
	"cp":    {1, 2, "cp KEY|PREFIX/ [KEY|PREFIX/]", (*Program).storageCopy},
	"rm":    {1, 1, "rm KEY|PREFIX/", (*Program).storageRemove},
	"check": {0, 0, "check", (*Program).storageCheck},
}

// sweepWord needs more of a platform than its store.
const sweepWord = "sweep"

func storageWords() []string {
	return []string{"ls", "du", "get", "put", "cp", "rm", "check", sweepWord}
}

func (p *Program) storageCommand() *urfave.Command {
	flags := append([]urfave.Flag{
		&urfave.StringFlag{Name: "to", Usage: "cp: `URL` of the store to copy to (default: the same)"},
		&urfave.IntFlag{Name: "limit", Value: 1000, Usage: "ls: at most `N` objects"},
		&urfave.BoolFlag{Name: "yes", Usage: "remove, not only show (rm: all below a prefix; sweep: what may go)"},
		&urfave.StringFlag{Name: "app", Usage: "sweep: only runs of this `APP`"},
		&urfave.BoolFlag{Name: "dry-run", Usage: "sweep: only show what may go (as without --yes)"},
		&urfave.DurationFlag{Name: "upload-age", Value: retention.DefaultUploadAge, Usage: "sweep: `TIME` after which an unfinished upload is aborted"},
		outputFlag(),
		retentionFlag(),
	}, connectFlags()...)
	return command(&urfave.Command{Name: "storage", Usage: "list, read, write, copy and check objects; sweep what retention rules let go", Flags: flags},
		strings.Join(storageWords(), "|")+" …", "baas storage ls runs/statements/", p.storage)
}

type storageArgs struct {
	words  []string
	to     string
	limit  int
	yes    bool
	asJSON bool
}

func (a storageArgs) word(i int) string {
	if i < len(a.words) {
		return a.words[i]
	}
	return ""
}

func (p *Program) storage(c *urfave.Context) error {
	name := c.Args().First()
	if name == sweepWord {
		return p.storageSweep(c)
	}
	verb, ok := storageVerbs[name]
	if !ok {
		hint := "expected " + strings.Join(storageWords(), ", ")
		if s := flow.Suggest(name, storageWords()); s != "" {
			hint = fmt.Sprintf("did you mean %q?", s)
		}
		return usagef("baas storage %s: %s", screen.OneLine(name), hint)
	}
	a := storageArgs{words: c.Args().Tail(), to: c.String("to"), limit: c.Int("limit"), yes: c.Bool("yes")}
	var err error
	if a.asJSON, err = wantsJSON(c); err != nil {
		return err
	}
	switch {
	case len(a.words) < verb.least || len(a.words) > verb.most:
		return usagef("usage: baas storage %s", verb.usage)
	case a.limit < 1:
		return usagef("--limit is %d: expected a number above 0", a.limit)
	case a.to != "" && name != "cp":
		return usagef("--to is for cp")
	}
	for _, option := range []string{"app", "dry-run", "upload-age", "retention"} {
		if c.IsSet(option) {
			return usagef("--%s is for sweep", option)
		}
	}
	t, err := p.target(c)
	if err != nil && (t.Storage == "" || !errors.Is(err, errNoPlatform)) {
		return err
	}
	if t.Storage == "" {
		return usagef("no storage is configured: name it with --storage or BAAS_STORAGE")
	}
	store, err := p.Parts.OpenStore(c.Context, t.Storage)
	if err != nil {
		return err
	}
	defer store.Close()
	if p.Shrink != nil {
		p.Shrink()
	}
	return verb.do(p, c.Context, store, a)
}

// storedObject is an object as JSON.
type storedObject struct {
	Key      string    `json:"key"`
	Size     int64     `json:"size"` // bytes
	Modified time.Time `json:"modified"`
}

func (p *Program) storageList(ctx context.Context, s storage.Store, a storageArgs) error {
	list := []storedObject{}
	more := false
	for info, err := range storage.All(ctx, s, storage.ListOptions{Prefix: a.word(0), Limit: min(a.limit, storage.MaxPage)}) {
		if err != nil {
			return err
		}
		if more = len(list) == a.limit; more {
			break
		}
		list = append(list, storedObject{info.Key, info.Size, info.Modified.UTC()})
	}
	if a.asJSON {
		return writeJSON(p.Stdout, list)
	}
	// The key comes last and is not cut: it is there to be copied.
	for _, o := range list {
		if _, err := fmt.Fprintf(p.Stdout, "%9s  %s  %s\n", bytesText(o.Size), stamp(o.Modified), o.Key); err != nil {
			return err
		}
	}
	if more {
		fmt.Fprintf(p.Stderr, "There are more; see --limit.\n")
	}
	return nil
}

// usedSpace is what lies below one part of a prefix.
type usedSpace struct {
	Prefix  string `json:"prefix"`
	Objects int    `json:"objects"`
	Bytes   int64  `json:"bytes"`
}

func (p *Program) storageUse(ctx context.Context, s storage.Store, a storageArgs) error {
	prefix := a.word(0)
	parts := map[string]*usedSpace{}
	all := usedSpace{Prefix: prefix}
	for info, err := range storage.All(ctx, s, storage.ListOptions{Prefix: prefix}) {
		if err != nil {
			return err
		}
		name := info.Key
		if i := strings.IndexByte(info.Key[len(prefix):], '/'); i >= 0 {
			name = info.Key[:len(prefix)+i+1]
		}
		part := parts[name]
		if part == nil {
			part = &usedSpace{Prefix: name}
			parts[name] = part
		}
		for _, sum := range []*usedSpace{part, &all} {
			sum.Objects++
			sum.Bytes += info.Size
		}
	}
	list := make([]usedSpace, 0, len(parts))
	for _, part := range parts {
		list = append(list, *part)
	}
	slices.SortFunc(list, func(a, b usedSpace) int { return strings.Compare(a.Prefix, b.Prefix) })
	if a.asJSON {
		return writeJSON(p.Stdout, list)
	}
	for _, u := range append(list, usedSpace{"in all", all.Objects, all.Bytes}) {
		if _, err := fmt.Fprintf(p.Stdout, "%9s  %14s  %s\n", bytesText(u.Bytes), number(u.Objects, "object"), u.Prefix); err != nil {
			return err
		}
	}
	return nil
}

func (p *Program) storageRemove(ctx context.Context, s storage.Store, a storageArgs) error {
	key := a.word(0)
	if !strings.HasSuffix(key, "/") {
		if _, err := s.Stat(ctx, key); err != nil {
			return err // removing what is not there would look like success
		}
		return s.Delete(ctx, key)
	}
	var sum usedSpace
	for info, err := range storage.All(ctx, s, storage.ListOptions{Prefix: key}) {
		if err == nil && a.yes {
			err = s.Delete(ctx, info.Key)
		}
		if err != nil {
			return err
		}
		sum.Objects++
		sum.Bytes += info.Size
	}
	if !a.yes {
		return usagef("%s with %s lie below %s; remove them with --yes. What runs still need is not looked at",
			number(sum.Objects, "object"), bytesText(sum.Bytes), key)
	}
	_, err := fmt.Fprintf(p.Stdout, "%s removed, %s\n", number(sum.Objects, "object"), bytesText(sum.Bytes))
	return err
}

func (p *Program) storageCheck(ctx context.Context, s storage.Store, a storageArgs) error {
	type trial struct {
		What  string  `json:"what"`
		Took  float64 `json:"took_ms"`
		Error string  `json:"error,omitempty"`
	}
	list := []trial{}
	err := storage.Try(ctx, s, func(what string, took time.Duration, err error) {
		one := trial{What: what, Took: float64(took.Microseconds()) / 1000}
		if err != nil {
			one.Error = err.Error()
		}
		list = append(list, one)
	})
	if a.asJSON {
		if err := writeJSON(p.Stdout, list); err != nil {
			return err
		}
	} else {
		for _, one := range list {
			verdict := "ok"
			if one.Error != "" {
				verdict = "failed"
			}
			fmt.Fprintf(p.Stdout, "%-26s %-6s %9.1f ms\n", one.What, verdict, one.Took)
		}
	}
	return err
}
