package link

import (
	"testing"
	"time"
)

func TestFate(t *testing.T) {
	for _, c := range []struct {
		name string
		fate Fate
		want int
	}{
		{"zero", Fate{}, 1},
		{"drop", Fate{Drop: true, Copies: 2, Delay: time.Millisecond}, 0},
		{"copies", Fate{Copies: 2}, 3},
	} {
		n := 0
		c.fate.Deliver(func() { n++ })
		if n != c.want {
			t.Errorf("%s: delivered %d times, want %d", c.name, n, c.want)
		}
	}
	arrived := make(chan time.Time, 2)
	start := time.Now()
	Fate{Delay: 20 * time.Millisecond, Copies: 1}.Deliver(func() { arrived <- time.Now() })
	for i := range 2 {
		if d := (<-arrived).Sub(start); d < time.Duration(i+1)*20*time.Millisecond {
			t.Errorf("copy %d arrived after %s", i, d)
		}
	}
}
