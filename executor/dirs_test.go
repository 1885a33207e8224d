package executor

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
)

// Directories that are used again show nothing of the partition before.
func TestPartitionsOfAPackAreClosedToEachOther(t *testing.T) {
	for name, s := range map[string]setup{"users": {}, "one user": asNobody(t)} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, s)
			l := r.pack(`look() { find . $BAAS_INPUTS $BAAS_OUTPUTS $BAAS_CHECKPOINT $TMPDIR $(dirname $BAAS_PROGRESS) -printf '%P %m %U\n'; }
				echo $(look | sort -u) $(look | wc -l) $(id -u) $(cd; cd ..; pwd)
				case $BAAS_PARTITION in
				0) echo a > a; echo b > $BAAS_OUTPUTS/b; echo c > $TMPDIR/.c; ln -s /etc $BAAS_CHECKPOINT/e; echo 1 > $BAAS_PROGRESS;;
				1) mkdir -p d/e; echo x > d/e/f;;
				2) chmod 777 .;;
				3) chmod 711 $BAAS_OUTPUTS;;
				4) i=0; while [ $i -lt 40 ]; do : > $TMPDIR/$i; i=$((i+1)); done;;
				esac`, 8)
			r.launch(l)
			end := r.packed(l)
			if end.status.GetState() != mesos.TASK_FINISHED || len(end.results) != 8 {
				t.Fatalf("%s %+v", end.status.GetState(), end.results)
			}
			users, bases := map[string]bool{}, map[string]int{}
			for i := range 8 {
				f := strings.Fields(r.logged(end.results[i]))
				if len(f) != 5 || f[0] != "700" || f[1] != f[3] || f[2] != "6" {
					t.Errorf("partition %d sees %q", i, f)
					continue
				}
				users[f[3]] = true
				bases[f[4]]++
			}
			if s.uid == 0 && len(users) != 8 {
				t.Errorf("%d users", len(users))
			}
			// 0 and all after 4 are clean enough; 1 to 4 are not.
			if len(bases) != 5 {
				t.Errorf("directories: %v", bases)
			}
		})
	}
}

// What the owner of a directory can change about it counts.
func TestDirectoryThatWasChanged(t *testing.T) {
	box := &sandbox{users: newUsers()}
	for name, change := range map[string]func(dir string) error{
		"mode":       func(dir string) error { return os.Chmod(dir, 0o701) },
		"attribute":  func(dir string) error { return syscall.Setxattr(dir, "user.note", []byte("x"), 0) },
		"entry":      func(dir string) error { return os.Mkdir(dir+"/d", 0o700) },
		"not there":  os.Remove,
		"link to it": func(dir string) error { return swapForLink(dir) },
	} {
		d, err := box.partition(t.TempDir(), user{})
		if err != nil {
			t.Fatal(err)
		}
		if err := d.clear(user{}); err != nil {
			t.Errorf("%s: before: %v", name, err)
		}
		if err := change(d.outputs); err != nil {
			t.Fatal(name, err)
		}
		if d.clear(user{}) == nil {
			t.Errorf("%s: not seen", name)
		}
	}
}

// A user of a name may have processes elsewhere: what is used again is not theirs
// meanwhile.
func TestClearedDirectoryIsTheExecutors(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("only root makes another user's directories")
	}
	box := &sandbox{users: newUsers()}
	nobody := user{uid: 65534, gid: 65534, switched: true}
	d, err := box.partition(t.TempDir(), nobody)
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxLeft {
		name := fmt.Sprintf("%s/%d", d.work, i)
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.clear(nobody); err != nil {
		t.Fatal(err)
	}
	for _, path := range d.all() {
		var st syscall.Stat_t
		if err := syscall.Stat(path, &st); err != nil || st.Uid != 0 || st.Gid != 0 {
			t.Errorf("%s is of %d:%d, %v", path, st.Uid, st.Gid, err)
		}
	}
	if left, err := os.ReadDir(d.work); err != nil || len(left) > 0 {
		t.Errorf("%d files left, %v", len(left), err)
	}
}

func swapForLink(dir string) error {
	if err := os.Rename(dir, dir+".real"); err != nil {
		return err
	}
	return os.Symlink(dir+".real", dir)
}
