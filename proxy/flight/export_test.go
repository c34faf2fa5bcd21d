package flight

import (
	"errors"
	"os"
)

// ErrFull is what a full disk says.
var ErrFull = errors.New("no space left on device")

// Disk is a disk that can be full, or fail altogether.
type Disk struct{ Full, Dead bool }

type diskFile struct {
	*os.File
	disk *Disk
}

func (f diskFile) WriteAt(b []byte, at int64) (int, error) {
	if f.disk.Full || f.disk.Dead {
		n, _ := f.File.WriteAt(b[:len(b)/2], at)
		return n, ErrFull
	}
	return f.File.WriteAt(b, at)
}

func (f diskFile) Truncate(size int64) error {
	if f.disk.Dead {
		return ErrFull
	}
	return f.File.Truncate(size)
}

// On puts the recorder's files on a disk.
func (r *Recorder) On(d *Disk) {
	create := r.create
	r.create = func(path string) (file, error) {
		f, err := create(path)
		if err != nil {
			return nil, err
		}
		return diskFile{f.(*os.File), d}, nil
	}
	r.file = diskFile{r.file.(*os.File), d}
}

// Path is the file's.
func (r *Recorder) Path() string { return r.path }

// Die ends the recorder as the end of its process does: the lock goes, the file stays.
func (r *Recorder) Die() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	if r.file != nil {
		_ = r.file.Close()
	}
}

// Locked takes a file's lock if it is still the one of that name.
func Locked(f *os.File, path string) bool { return locked(f, path) }
