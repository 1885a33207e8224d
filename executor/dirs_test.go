package executor

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"github.com/baas-batch/baas/tasklet"
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
	box := &sandbox{users: newUsers(), parts: t.TempDir()}
	for name, change := range map[string]func(dir string) error{
		"mode":       func(dir string) error { return os.Chmod(dir, 0o701) },
		"attribute":  func(dir string) error { return syscall.Setxattr(dir, "user.note", []byte("x"), 0) },
		"flag":       setFlag,
		"entry":      func(dir string) error { return os.Mkdir(dir+"/d", 0o700) },
		"not there":  os.Remove,
		"link to it": func(dir string) error { return swapForLink(dir) },
	} {
		d, err := box.partition("app")
		if err != nil {
			t.Fatal(err)
		}
		if err := d.clear(user{}); err != nil {
			t.Errorf("%s: before: %v", name, err)
		}
		switch err := change(d.outputs); {
		case errors.Is(err, errors.ErrUnsupported):
			continue
		case err != nil:
			t.Fatal(name, err)
		}
		if d.clear(user{}) == nil {
			t.Errorf("%s: not seen", name)
		}
	}
}

// Links to a bundle stay from partition to partition while they are as they were made.
func TestLinksOfAPack(t *testing.T) {
	for name, s := range map[string]setup{"users": {}, "one user": asNobody(t)} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, s)
			changes := []string{
				"true", "rm a; ln -s /etc/passwd a", `ln -sfn "$(readlink a)" a`, "echo x > beside", "rm a b",
				"mv a c; mv b a", "rm a; echo x > a", "setsid sleep 1000 > /dev/null 2>&1 & true", "ln -s a beside",
				"rm a; mkdir a", "true", "chmod 711 .", "true", "true",
			}
			l := r.pack("", len(changes))
			l.Shell = `ls -id a b > links; mv links $TMPDIR; echo $(find . -printf '%P=%m=%l=%U ' | sed s/=$(id -u)' '/=me' '/) $(cat a b/x); cd ..; pwd; cut -c1-99 tmp/links; cd work
				case $BAAS_PARTITION in`
			for i, change := range changes {
				l.Shell += fmt.Sprintf("\n%d) %s;;", i, change)
			}
			l.Shell += "\nesac"
			src := r.bundle(tarGz(entry{name: "a", content: "A"}, entry{name: "b/x", content: "B"}))
			l.Bundle = &src
			r.launch(l)
			end := r.packed(l)
			if end.status.GetState() != mesos.TASK_FINISHED {
				t.Fatalf("%s %+v", end.status.GetState(), end.results)
			}
			var looks, bases, inodes []string
			for i := range changes {
				f := strings.SplitN(r.logged(end.results[i]), "\n", 3)
				if len(f) < 3 {
					t.Fatalf("partition %d: %q", i, f)
				}
				looks, bases, inodes = append(looks, sortedFields(f[0])), append(bases, f[1]), append(inodes, f[2])
			}
			for i, look := range looks {
				if look != looks[0] || strings.Count(look, "=777=") != 2 || !strings.Contains(look, "AB") {
					t.Errorf("partition %d sees %q, the first one %q", i, look, looks[0])
				}
				if i == 0 {
					continue
				}
				switch change := changes[i-1]; {
				case strings.HasPrefix(change, "chmod"), strings.Contains(change, "mkdir"):
					if bases[i] == bases[i-1] {
						t.Errorf("after %q: the same directories", change)
					}
				case bases[i] != bases[i-1]:
					t.Errorf("after %q: other directories", change)
				case change == "true" && inodes[i] != inodes[i-1]:
					t.Errorf("new links: %q %q", inodes[i-1], inodes[i])
				}
			}
		})
	}
}

func sortedFields(s string) string {
	f := strings.Fields(s)
	slices.Sort(f)
	return strings.Join(f, " ")
}

func TestLinksThatWereChanged(t *testing.T) {
	box := &sandbox{users: newUsers(), parts: t.TempDir()}
	bundle := t.TempDir()
	for _, name := range []string{"a", "b"} {
		if err := os.WriteFile(bundle+"/"+name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const kept, made, failed = "kept", "made anew", "not clean"
	for name, c := range map[string]struct {
		change func(work string) error
		want   string
	}{
		"nothing":      {func(string) error { return nil }, kept},
		"file beside":  {func(work string) error { return os.WriteFile(work+"/c", nil, 0o600) }, kept},
		"link beside":  {func(work string) error { return os.Symlink(bundle+"/a", work+"/c") }, kept},
		"removed":      {func(work string) error { return os.Remove(work + "/a") }, made},
		"other target": {func(work string) error { return replace(work+"/a", bundle+"/b") }, made},
		"same target":  {func(work string) error { return replace(work+"/a", bundle+"/a") }, made},
		"renamed":      {func(work string) error { return os.Rename(work+"/a", work+"/b") }, made},
		"times": {func(work string) error {
			return unix.Lutimes(work+"/a", []unix.Timeval{{Sec: 1}, {Sec: 1}})
		}, made},
		"owner":     {func(work string) error { return os.Lchown(work+"/a", nobody, nobody) }, made},
		"directory": {func(work string) error { return errors.Join(os.Remove(work+"/a"), os.Mkdir(work+"/a", 0o700)) }, failed},
		"mode":      {func(work string) error { return os.Chmod(work, 0o701) }, failed},
		"attribute": {func(work string) error { return syscall.Setxattr(work, "user.note", []byte("x"), 0) }, failed},
	} {
		d, err := box.partition("app")
		if err == nil {
			err = d.link(bundle)
		}
		before := d.links
		if err == nil {
			err = c.change(d.work)
		}
		if err != nil {
			t.Fatal(name, err)
		}
		err = d.clear(user{})
		if got := err != nil; got != (c.want == failed) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil {
			continue
		}
		if got := d.links.bundle != ""; got != (c.want == kept) {
			t.Errorf("%s: links kept: %t", name, got)
		}
		if err := d.link(bundle); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for name := range before.made {
			if target, err := os.Readlink(d.work + "/" + name); target != bundle+"/"+name {
				t.Errorf("%s: %s, %v", name, target, err)
			}
		}
		if entries, err := os.ReadDir(d.work); len(entries) != 2 {
			t.Errorf("%s: %v, %v", name, entries, err)
		}
	}
}

func replace(link, target string) error {
	return errors.Join(os.Remove(link), os.Symlink(target, link))
}

// Directories go from pack to pack, each with its own bundle and user.
func TestDirectoriesOfAPackBefore(t *testing.T) {
	r := newRig(t, setup{})
	var bases, users []string
	for _, name := range []string{"one", "two", "two", ""} {
		l := r.pack("(cd ..; pwd); id -u; ls", 3)
		if name != "" {
			src := r.bundle(tarGz(entry{name: name}))
			l.Bundle = &src
		}
		r.launch(l)
		for i, res := range r.packed(l).results {
			f := strings.Fields(r.logged(res))
			if len(f) < 2 || strings.Join(f[2:], " ") != name {
				t.Fatalf("partition %d of %q sees %q", i, name, f)
			}
			bases, users = append(bases, f[0]), append(users, f[1])
		}
	}
	slices.Sort(users)
	if n := len(slices.Compact(bases)); n != 1 {
		t.Errorf("directories: %v", bases)
	}
	if n := len(slices.Compact(users)); partitionsHaveUsers() && n != len(bases) {
		t.Errorf("users: %v", users)
	}
}

func TestKeptDirectoriesAreBounded(t *testing.T) {
	box := &sandbox{}
	for range maxPool {
		if !box.keepDirs(&dirs{app: "mine"}) {
			t.Fatal("not kept")
		}
	}
	if box.keepDirs(&dirs{}) {
		t.Error("one more is kept")
	}
	if box.takeDirs("other", "") != nil || box.takeDirs("mine", "") == nil {
		t.Error("an app gets directories of another one, or none of its own")
	}
}

// As long as the executor writes into a partition's directories, no process of the
// partition's user may put something else in their place.
func TestDirectoriesBeforeTheirCommand(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Fatal("only root makes another user's directories")
	}
	r := newRig(t, setup{})
	seen := make(chan string, 8)
	r.store.set(func() {
		r.store.intercept = func(_ http.ResponseWriter, req *http.Request) bool {
			if strings.Contains(req.URL.Path, "/in/") {
				for _, dir := range []string{"work", "inputs", "checkpoint"} {
					found, _ := filepath.Glob(filepath.Join(r.sandbox, "work", "*", "p-*", dir))
					for _, path := range found {
						var st syscall.Stat_t
						if err := syscall.Stat(path, &st); err == nil {
							seen <- fmt.Sprintf("%s of %d %o", dir, st.Uid, st.Mode&0o777)
						}
					}
				}
			}
			return false
		}
	})
	l := r.job(`stat -c '%u %a' "$BAAS_INPUTS"/list; cat "$BAAS_INPUTS"/list/*`)
	l.User = "12345"
	l.Partitions[0].Inputs = map[string]tasklet.Input{"list": {List: true, Files: []tasklet.Source{r.store.put("in/a", []byte("text\n"))}}}
	r.one(l)
	if got := r.logOf(l, 0); got != "12345 700\ntext\n" {
		t.Errorf("the command saw %q", got)
	}
	close(seen)
	var got []string
	for s := range seen {
		got = append(got, s)
	}
	if want := []string{"work of 0 700", "inputs of 0 700", "checkpoint of 0 700"}; !slices.Equal(got, want) {
		t.Errorf("while an input came there was %q, want %q", got, want)
	}
}

// A user of a name may have processes elsewhere: what is used again is not theirs
// meanwhile.
func TestClearedDirectoryIsTheExecutors(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("only root makes another user's directories")
	}
	box := &sandbox{users: newUsers(), parts: t.TempDir()}
	nobody := user{uid: 65534, gid: 65534, switched: true}
	d, err := box.partition("app")
	if err == nil {
		err = d.give(nobody)
	}
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

// setFlag makes all changes in a directory synchronous: FS_DIRSYNC_FL of linux/fs.h, set
// by FS_IOC_SETFLAGS. Not all file systems have it.
func setFlag(path string) error {
	return inDir(path, func(dir int) error {
		err := unix.IoctlSetPointerInt(dir, 0x40086602, 0x10000)
		if errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EOPNOTSUPP) {
			return errors.ErrUnsupported
		}
		return err
	})
}

func swapForLink(dir string) error {
	if err := os.Rename(dir, dir+".real"); err != nil {
		return err
	}
	return os.Symlink(dir+".real", dir)
}
