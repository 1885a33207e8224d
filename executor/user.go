package executor

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	osuser "os/user"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/baas-batch/baas/tasklet/tree"
)

// user is who a partition runs as.
type user struct {
	uid, gid uint32
	switched bool // other than the executor's own
	own      bool // nobody else has it: its processes can be told by it
}

func (u user) credential() *syscall.Credential {
	if !u.switched {
		return nil
	}
	return &syscall.Credential{Uid: u.uid, Gid: u.gid, Groups: []uint32{}}
}

// give makes a file or directory the user's.
func (u user) give(path string) error {
	if !u.switched {
		return nil
	}
	return os.Lchown(path, int(u.uid), int(u.gid))
}

// owner is the user for trees that are made for it; nil where it is our own.
func (u user) owner() *tree.Owner {
	if !u.switched {
		return nil
	}
	return &tree.Owner{UID: int(u.uid), GID: int(u.gid)}
}

// users hands out throw-away users where this process may become another one.
type users struct {
	able     bool
	low, num uint32 // the range of user and group IDs

	mu    sync.Mutex
	taken map[uint32]bool
}

const (
	firstThrowaway = 1 << 30
	numThrowaway   = 1 << 30
)

func newUsers() *users {
	u := &users{taken: map[uint32]bool{}}
	if os.Geteuid() != 0 || !capable(unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_KILL, unix.CAP_SETGID, unix.CAP_SETUID) {
		return u
	}
	// In a user namespace only some IDs can be had.
	lowU, numU := widestMapping("/proc/self/uid_map")
	lowG, numG := widestMapping("/proc/self/gid_map")
	low, num := max(lowU, lowG), min(numU, numG)
	switch {
	case low <= firstThrowaway && low+num >= firstThrowaway+numThrowaway:
		u.able, u.low, u.num = true, firstThrowaway, numThrowaway
	case num >= 10_000 && low+num <= 1<<32-2:
		u.able, u.low, u.num = true, uint32(low+num/2), uint32(num/2)
	}
	return u
}

// take gives a user for one partition: the one that was asked for by name, or
// one of its own. The release is to be called when its processes are gone.
func (u *users) take(name string) (user, func(), error) {
	if name != "" {
		named, err := u.named(name)
		return named, func() {}, err
	}
	if !u.able {
		return user{uid: uint32(os.Geteuid()), gid: uint32(os.Getegid())}, func() {}, nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	id := u.low + rand.N(u.num)
	for u.taken[id] {
		id = u.low + rand.N(u.num)
	}
	u.taken[id] = true
	return user{uid: id, gid: id, switched: true, own: true}, func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		delete(u.taken, id)
	}, nil
}

func (u *users) named(name string) (user, error) {
	uid, gid, err := lookUser(name)
	switch {
	case err != nil:
		return user{}, err
	case uid == 0:
		return user{}, errors.New("tasks do not run as root")
	case int(uid) == os.Geteuid():
		return user{uid: uid, gid: gid}, nil
	case !u.able:
		return user{}, fmt.Errorf("user %q: the agent does not run as root and cannot switch users", name)
	}
	return user{uid: uid, gid: gid, switched: true}, nil
}

// lookUser takes "uid", "uid:gid", or a name of the user database.
func lookUser(name string) (uid, gid uint32, err error) {
	first, second, both := strings.Cut(name, ":")
	if n, err := strconv.ParseUint(first, 10, 32); err == nil {
		uid, gid = uint32(n), uint32(n)
		if both {
			n, err := strconv.ParseUint(second, 10, 32)
			if err != nil {
				return 0, 0, fmt.Errorf("user %q: bad group ID", name)
			}
			gid = uint32(n)
		}
		return uid, gid, nil
	}
	found, err := osuser.Lookup(name)
	if err != nil {
		return 0, 0, fmt.Errorf("user %q: %w", name, err)
	}
	n, errU := strconv.ParseUint(found.Uid, 10, 32)
	m, errG := strconv.ParseUint(found.Gid, 10, 32)
	return uint32(n), uint32(m), errors.Join(errU, errG)
}

// widestMapping gives the largest range of IDs that exist in this user namespace.
func widestMapping(path string) (low, num uint64) {
	f, err := os.Open(path)
	if err != nil {
		return 0, 1 << 32 // a kernel without user namespaces
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var inside, outside, count uint64
		if _, err := fmt.Sscan(s.Text(), &inside, &outside, &count); err == nil && count > num {
			low, num = inside, count
		}
	}
	return low, num
}

func capable(caps ...int) bool {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "CapEff:"); ok {
			have, err := strconv.ParseUint(strings.TrimSpace(rest), 16, 64)
			for _, c := range caps {
				if err != nil || have&(1<<c) == 0 {
					return false
				}
			}
			return true
		}
	}
	return false
}
