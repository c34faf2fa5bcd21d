package embedded

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// reachable is where data goes when the server's user cannot reach Dir.
const reachable = "/var/lib/budgetguard-dev"

// account is the user that a server runs as.
type account struct {
	uid, gid int
	drop     bool // we are root and must become somebody else
}

// credential is nil when the server runs as we do.
func (a account) credential() *syscall.Credential {
	if !a.drop {
		return nil
	}
	return &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)} //nolint:gosec // ids from the user database or from stat: they fit
}

// chown gives a file or an empty directory to the server.
func (a account) chown(path string) error {
	if !a.drop {
		return nil
	}
	if err := os.Lchown(path, a.uid, a.gid); err != nil {
		return fmt.Errorf("give %s to uid %d: %w", path, a.uid, err)
	}
	return nil
}

// chownAll gives a whole tree to the server.
func (a account) chownAll(root string) error {
	if !a.drop {
		return nil
	}
	return filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return a.chown(path)
	})
}

// accountFor is ourselves, or as root the owner of the data that exists, or else the first known of names.
func accountFor(data string, names []string) (account, error) {
	euid := os.Geteuid()
	if owner, err := ownerOf(data); err == nil {
		if euid != 0 && owner.uid != euid {
			return account{}, fmt.Errorf("%s belongs to uid %d and we are uid %d: run as that user or as root, or choose another directory", data, owner.uid, euid)
		}
		if euid == 0 && owner.uid != 0 {
			owner.drop = true
			return owner, nil
		}
	}
	if euid != 0 {
		return account{uid: euid, gid: os.Getegid()}, nil
	}
	for _, name := range names {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errUID := strconv.Atoi(u.Uid)
		gid, errGID := strconv.Atoi(u.Gid)
		if err := errors.Join(errUID, errGID); err != nil {
			return account{}, fmt.Errorf("read the ids of user %s: %w", name, err)
		}
		return account{uid: uid, gid: gid, drop: true}, nil
	}
	return account{}, fmt.Errorf("we are root, the server refuses to be, and none of the users %v exists: run as another user", names)
}

func ownerOf(path string) (account, error) {
	info, err := os.Stat(path)
	if err != nil {
		return account{}, fmt.Errorf("find the owner of the data: %w", err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return account{}, fmt.Errorf("find the owner of %s: no owner on this system", path)
	}
	return account{uid: int(stat.Uid), gid: int(stat.Gid)}, nil
}

// canEnter tells whether the account may go through dir and every directory above it.
func (a account) canEnter(dir string) bool {
	for {
		info, err := os.Stat(dir)
		if err != nil {
			return false
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return false
		}
		bit := fs.FileMode(0o001)
		switch {
		case int(stat.Uid) == a.uid:
			bit = 0o100
		case int(stat.Gid) == a.gid:
			bit = 0o010
		}
		if info.Mode()&bit == 0 {
			return false
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return true
		}
		dir = parent
	}
}

// openDir makes Dir and answers its real, absolute path.
func openDir(dir string) (string, error) {
	if dir == "" {
		return "", errors.New("no directory given for the data")
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("find %s: %w", dir, err)
	}
	if _, err := os.Stat(abs); errors.Is(err, fs.ErrNotExist) {
		if err := makeDir(abs); err != nil {
			return "", err
		}
	}
	if abs, err = filepath.EvalSymlinks(abs); err != nil {
		return "", fmt.Errorf("find %s: %w", dir, err)
	}
	return abs, nil
}

// makeDir makes a directory that is ours alone, save that root lets others
// pass through it to their own data. The umask has no say in that.
func makeDir(dir string) error {
	mode := fs.FileMode(0o700)
	if os.Geteuid() == 0 {
		mode = 0o711
	}
	if err := os.MkdirAll(dir, mode); err != nil {
		return fmt.Errorf("make the data directory: %w", err)
	}
	if err := os.Chmod(dir, mode); err != nil {
		return fmt.Errorf("make the data directory: %w", err)
	}
	return nil
}

// Scratch makes a new directory for data that nobody will miss, in memory where
// there is room for it. The servers' user can pass through it, unlike through a
// temporary directory of root's. The caller removes it, after [Remove] of each Dir in it.
func Scratch(pattern string) (string, error) {
	dir, err := os.MkdirTemp(scratchParent(), pattern)
	if err != nil {
		return "", fmt.Errorf("make a scratch directory: %w", err)
	}
	return dir, makeDir(dir)
}

// site is where the data of one server is and who runs it.
type site struct {
	data string
	who  account
}

// place decides where the data called name is: in dir, or behind a link in dir
// where the account could not reach it. It need not exist yet; its parent does.
func place(dir, name string, users []string) (site, error) {
	link := filepath.Join(dir, name)
	at := site{data: link}
	if target, err := os.Readlink(link); err == nil {
		at.data = target
	}
	who, err := accountFor(at.data, users)
	if err != nil {
		return site{}, err
	}
	at.who = who
	if err := makeParent(at.data); err != nil {
		return site{}, err
	}
	if who.canEnter(filepath.Dir(at.data)) {
		return at, nil
	}
	if _, err := os.Lstat(at.data); err == nil {
		return site{}, fmt.Errorf("uid %d, who owns %s, cannot reach it: make its parent directories searchable (chmod o+x)", who.uid, at.data)
	}
	id := make([]byte, 8)
	_, _ = rand.Read(id) // never fails, by its contract
	home := filepath.Join(reachable, hex.EncodeToString(id))
	if err := errors.Join(makeDir(reachable), makeDir(home)); err != nil {
		return site{}, err
	}
	at.data = filepath.Join(home, name)
	if err := os.Symlink(at.data, link); err != nil {
		return site{}, fmt.Errorf("link the data: %w", err)
	}
	return at, nil
}

func makeParent(data string) error {
	if _, err := os.Stat(filepath.Dir(data)); err == nil {
		return nil
	}
	return makeDir(filepath.Dir(data))
}

// Remove deletes the data, passwords and logs of both servers in dir, also where
// dir only links to them, and dir itself if nothing else is left in it.
// It answers an [InUseError] when a server runs.
func Remove(dir string) error {
	dir, err := openDir(dir)
	if err != nil {
		return err
	}
	for _, name := range []string{"postgres", "redis"} {
		if err := removeOne(dir, name); err != nil {
			return fmt.Errorf("remove %s: %w", name, err)
		}
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, syscall.ENOTEMPTY) && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	return nil
}

func removeOne(dir, name string) error {
	held, err := lock(dir, name)
	if err != nil {
		return err
	}
	defer unlock(held)
	base := filepath.Join(dir, name)
	if target, err := os.Readlink(base); err == nil && filepath.Dir(filepath.Dir(target)) == reachable {
		if err := os.RemoveAll(filepath.Dir(target)); err != nil {
			return fmt.Errorf("remove the data: %w", err)
		}
	}
	var errs []error
	for _, suffix := range []string{"", ".init", ".password", ".port", ".log", ".log.1", ".lock"} {
		errs = append(errs, os.RemoveAll(base+suffix))
	}
	return errors.Join(errs...)
}
