package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/baas-batch/baas/starter"
)

// stamp is a command that writes when it runs, in nanoseconds since 1970, as the last
// act of its process: what it writes is also when it ends.
const stamp = "exec date +%s%N"

// measureGap gives the time from the end of a step's process to the start of the next
// step's. What a process needs from its start to its stamp is measured apart and taken
// off: it is neither's.
func measureGap(ctx context.Context, j job) (Sample, error) {
	return onPlatform(ctx, j, func(b *bed) (Sample, error) {
		app, err := b.load("gap", inARow(stepsInARow,
			"run: '"+stamp+` >>"$BAAS_INPUT_LEDGER"'`, "with: {ledger: '${{ params.ledger }}'}"))
		if err != nil {
			return nil, err
		}
		var gaps []float64
		for i := range 1 + rows {
			stamps, err := b.stamps(ctx, app, i)
			if err != nil {
				return nil, err
			}
			for k := 1; k < len(stamps) && i > 0; k++ {
				gaps = append(gaps, milliseconds(stamps[k].Sub(stamps[k-1])))
			}
		}
		begin, err := beginning(ctx)
		return Sample{"p50": spread(gaps).Median - begin, "process": begin}, err
	})
}

// ledger makes an empty file that tasks may write to.
func (b *bed) ledger(name string) (string, error) {
	path := filepath.Join(b.Dir, name)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return "", err
	}
	return path, os.Chmod(path, 0o666) // tasks are other users
}

// stamps runs the steps once and gives what they have written.
func (b *bed) stamps(ctx context.Context, app *starter.App, i int) (list []time.Time, err error) {
	ledger, err := b.ledger("ledger" + strconv.Itoa(i))
	if err != nil {
		return nil, err
	}
	if _, _, err := b.run(ctx, app, map[string]string{"ledger": ledger}); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(ledger)
	if err != nil {
		return nil, err
	}
	for word := range strings.FieldsSeq(string(text)) {
		t, err := nanoseconds(word)
		if err != nil {
			return nil, err
		}
		list = append(list, t)
	}
	if len(list) != stepsInARow {
		return nil, fmt.Errorf("%d of %d steps have written when they ran", len(list), stepsInARow)
	}
	return list, nil
}

func nanoseconds(word string) (time.Time, error) {
	n, err := strconv.ParseInt(word, 10, 64)
	return time.Unix(0, n), err
}

// beginning gives the milliseconds that such a command needs to its stamp, the median
// of many.
func beginning(ctx context.Context) (float64, error) {
	var list []float64
	for range 5 * stepsInARow {
		begin := time.Now()
		said, err := exec.CommandContext(ctx, "/bin/sh", "-c", stamp).Output()
		if err != nil {
			return 0, err
		}
		t, err := nanoseconds(strings.TrimSpace(string(said)))
		if err != nil {
			return 0, err
		}
		list = append(list, milliseconds(t.Sub(begin)))
	}
	return spread(list).Median, nil
}
