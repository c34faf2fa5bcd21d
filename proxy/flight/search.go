package flight

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	suffix          = ".flight"
	temporarySuffix = ".new"
	// damagedSuffix is what a file that could not be read whole is kept under.
	damagedSuffix = ".damaged"
	// maxFile bounds what is read: twice the calls of any gateway.
	maxFile = 1 << 30
)

// createLocked makes a file that nobody else may replay, readable by its owner only.
func createLocked(path string) (file, error) {
	const attempts = 3
	for range attempts {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600) //nolint:gosec // in the operator's directory
		if err != nil {
			return nil, err
		}
		if locked(f, path) {
			return f, nil
		}
		_ = f.Close() // a gateway that starts took it for a leftover in the moment before it was locked
	}
	return nil, fmt.Errorf("%s cannot be locked", path)
}

// locked takes the lock of a file that is still the one of that name. The lock goes with the process.
func locked(f *os.File, path string) bool {
	if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		return false
	}
	mine, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Lstat(path)
	return err == nil && os.SameFile(mine, named)
}

// Lost is the file of a process that is no more. It is locked until it is closed in one of the three ways.
type Lost struct {
	Log
	// Err says why the file could not be read to its end, if it could not.
	Err error
	// Written is when the file was last written to.
	Written time.Time

	path string
	file *os.File
}

// Whole tells whether what the file lacks did not happen: it was read to its end, and written since the
// machine, whose present run is boot, was started.
func (l *Lost) Whole(boot string) bool { return l.Err == nil && boot != "" && l.Header.Boot == boot }

// Name is the file's.
func (l *Lost) Name() string { return l.path }

// Keep leaves the file to the next start.
func (l *Lost) Keep() error { return l.file.Close() }

// Remove ends the file.
func (l *Lost) Remove() error { return errors.Join(os.Remove(l.path), l.file.Close()) }

// SetAside keeps the file for people under another name, where nobody replays it.
func (l *Lost) SetAside() error {
	return errors.Join(os.Rename(l.path, l.path+damagedSuffix), l.file.Close())
}

// Search finds the files of processes that are no more. What is no file of a recorder, or belongs to a process
// that lives, is passed over. A file is returned even with its error.
func Search(dir string) ([]*Lost, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("search flight recorders: %w", err)
	}
	var found []*Lost
	var errs []error
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		switch {
		case !e.Type().IsRegular():
		case strings.HasSuffix(e.Name(), suffix+temporarySuffix):
			errs = append(errs, removeLeftover(path))
		case strings.HasSuffix(e.Name(), suffix):
			l, err := take(path)
			errs = append(errs, err)
			if l != nil {
				found = append(found, l)
			}
		}
	}
	return found, errors.Join(errs...)
}

// open opens a file of which nothing is known: not through a link, and without waiting at a pipe.
func open(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0) //nolint:gosec // in the operator's directory
}

// removeLeftover removes what a process left that ended while it compacted.
func removeLeftover(path string) error {
	f, err := open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if !locked(f, path) {
		return nil
	}
	return os.Remove(path)
}

// take locks and reads a file; nil if its process lives or somebody else has taken it.
func take(path string) (*Lost, error) {
	f, err := open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open flight recorder: %w", err)
	}
	if !locked(f, path) {
		return nil, f.Close()
	}
	l := &Lost{path: path, file: f}
	info, err := f.Stat()
	if err == nil {
		l.Written = info.ModTime()
	}
	switch {
	case err != nil:
		l.Err = err
	case !info.Mode().IsRegular() || info.Size() > maxFile:
		l.Err = fmt.Errorf("%w: %s is no file, or larger than %d bytes", ErrDamaged, path, maxFile)
	default:
		l.Log, l.Err = Read(bufio.NewReaderSize(f, maxRecord))
	}
	return l, nil
}

// Boot tells the machine's present run from others, where the system says it: on Linux.
func Boot() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}
