package activities

import (
	"slices"
	"testing"
)

func TestGenerations(t *testing.T) {
	var g generations
	if g.of(0) != 0 {
		t.Error("one is used up at the start")
	}
	for _, use := range []generation{{7, 1}, {0, 2}, {3, 1}, {7, 3}, {0, 1}} {
		g.use(use.first, use.last)
	}
	if want := (generations{{0, 2}, {3, 1}, {7, 3}}); !slices.Equal(g, want) {
		t.Errorf("%v, want %v", g, want)
	}
	if g.of(7) != 3 || g.of(3) != 1 || g.of(5) != 0 {
		t.Errorf("%d, %d, %d", g.of(7), g.of(3), g.of(5))
	}
}
