package master

import (
	"testing"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"github.com/baas-batch/baas/embedded/mesos/mesostest"
)

func ports(spans ...uint64) mesos.Resource {
	r := mesos.Resource{Name: "ports", Type: mesos.RANGES.Enum(), Ranges: &mesos.Value_Ranges{}}
	for i := 0; i < len(spans); i += 2 {
		r.Ranges.Range = append(r.Ranges.Range, mesos.Value_Range{Begin: spans[i], End: spans[i+1]})
	}
	return r
}

func set(items ...string) mesos.Resource {
	return mesos.Resource{Name: "disks", Type: mesos.SET.Enum(), Set: &mesos.Value_Set{Item: items}}
}

func mustBag(t *testing.T, rs ...mesos.Resource) bag {
	t.Helper()
	b, ok := bagOf(rs, "")
	if !ok {
		t.Fatalf("not plain: %v", rs)
	}
	return b
}

func TestBagArithmetic(t *testing.T) {
	all := mustBag(t, mesostest.Scalar("cpus", 1), mesostest.Scalar("mem", 100), ports(10, 20), set("a", "b"))
	left := all.clone()
	for range 10 {
		left.sub(mustBag(t, mesostest.Scalar("cpus", 0.1)))
	}
	if _, there := left.scalars["cpus"]; there {
		t.Errorf("ten tenths of a cpu leave %v", left)
	}
	left.sub(mustBag(t, ports(12, 13, 20, 20), set("a")))
	if got, want := left.String(), "mem:100; ports:[10-11, 14-19]; disks:{b}"; got != want {
		t.Errorf("left %s, want %s", got, want)
	}
	for _, c := range []struct {
		r    mesos.Resource
		want bool
	}{
		{ports(10, 11), true}, {ports(11, 14), false}, {set("b"), true}, {set("a", "b"), false},
		{mesostest.Scalar("mem", 100.0001), true}, {mesostest.Scalar("mem", 100.001), false},
	} {
		if got := left.contains(mustBag(t, c.r)); got != c.want {
			t.Errorf("contains %v: %v", c.r, got)
		}
	}
	left.add(mustBag(t, mesostest.Scalar("cpus", 1), ports(12, 13, 20, 20), set("a")))
	if !left.equal(all) {
		t.Errorf("%s is not %s", left, all)
	}
	back := mustBag(t, all.resources("x", false)...)
	if !back.equal(all) {
		t.Errorf("over the wire %s became %s", all, back)
	}
	if all.overlaps(mustBag(t, ports(21, 30))) || !all.overlaps(mustBag(t, ports(20, 30))) || !all.overlaps(mustBag(t, set("b"))) {
		t.Error("overlap is wrong")
	}
}

func TestBagRefusesWhatIsNeverOffered(t *testing.T) {
	for name, r := range map[string]mesos.Resource{
		"reserved":  {Name: "cpus", Type: mesos.SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: 1}, Role: ptr("x")},
		"revocable": {Name: "x", Type: mesos.SET.Enum(), Set: &mesos.Value_Set{Item: []string{"a"}}, Revocable: &mesos.Resource_RevocableInfo{}},
		"volume":    {Name: "disk", Type: mesos.SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: 1}, Disk: &mesos.Resource_DiskInfo{}},
	} {
		if _, ok := bagOf([]mesos.Resource{r}, ""); ok {
			t.Errorf("%s resources were taken", name)
		}
	}
}

func TestDominantShare(t *testing.T) {
	all := mustBag(t, mesostest.Scalar("cpus", 10), mesostest.Scalar("mem", 100))
	if got := mustBag(t, mesostest.Scalar("cpus", 1), mesostest.Scalar("mem", 50)).share(all); got != 0.5 {
		t.Errorf("share %v", got)
	}
}

func TestBounded(t *testing.T) {
	b := newBounded[int](2)
	b.put("a", 1)
	b.put("b", 2)
	b.put("a", 3)
	b.put("c", 4)
	if b.has("b") || !b.has("a") || len(b.all()) != 2 || b.all()[0] != 3 {
		t.Errorf("%v", b)
	}
	b.remove("a")
	b.remove("a")
	if got := b.all(); len(got) != 1 || got[0] != 4 {
		t.Errorf("%v", got)
	}
}
