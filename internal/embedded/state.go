package embedded

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// lock takes the directory for this process, until the file is closed or the
// process ends in any way. A child never inherits it.
func lock(dir, name string) (*os.File, error) {
	path := filepath.Join(dir, name+".lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // a name of ours in the directory that we were given
	if err != nil {
		return nil, fmt.Errorf("open the lock: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		_ = f.Close()
		return nil, &InUseError{Dir: dir, Holder: holder(path)}
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	// The pid is only for the message of the next one; the lock is what counts.
	if err := errors.Join(f.Truncate(0), write(f, strconv.Itoa(os.Getpid()))); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("sign %s: %w", path, err)
	}
	return f, nil
}

// unlock gives the directory free at once. Closing alone would not: a child that is
// between fork and exec still has the file, and the lock with it.
func unlock(held *os.File) {
	_ = syscall.Flock(int(held.Fd()), syscall.LOCK_UN)
	_ = held.Close()
}

func write(f *os.File, text string) error {
	_, err := f.WriteAt([]byte(text+"\n"), 0)
	return err
}

func holder(path string) string {
	raw, err := os.ReadFile(path) //nolint:gosec // a name of ours in the directory that we were given
	if pid := strings.TrimSpace(string(raw)); err == nil && pid != "" {
		return pid
	}
	return "unknown"
}

// secret reads the password kept in the file, or makes one: 128 random bits. The
// second value tells whether it is new.
func secret(path string) (string, bool, error) {
	raw, err := os.ReadFile(path) //nolint:gosec // a name of ours in the directory that we were given
	if text := strings.TrimSpace(string(raw)); err == nil && text != "" {
		return text, false, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", false, fmt.Errorf("read the password: %w", err)
	}
	random := make([]byte, 16)
	_, _ = rand.Read(random) // never fails, by its contract
	text := hex.EncodeToString(random)
	if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
		return "", false, fmt.Errorf("keep the password: %w", err)
	}
	return text, true, nil
}

// keptPort is the port of the last start, or 0.
func keptPort(path string) int {
	raw, err := os.ReadFile(path) //nolint:gosec // a name of ours in the directory that we were given
	if err != nil {
		return 0
	}
	port, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil || port < 1 || port > 65535 {
		return 0
	}
	return port
}

func keepPort(path string, port int) error {
	if err := os.WriteFile(path, []byte(strconv.Itoa(port)+"\n"), 0o600); err != nil {
		return fmt.Errorf("keep the port: %w", err)
	}
	return nil
}

// freePort answers wanted if nobody listens there, and any free port otherwise. Somebody may take it
// before the server does: the caller tries again.
func freePort(ctx context.Context, wanted int) (int, error) {
	var listen net.ListenConfig
	l, err := listen.Listen(ctx, "tcp", net.JoinHostPort(loopback, strconv.Itoa(wanted)))
	if err != nil && wanted != 0 {
		l, err = listen.Listen(ctx, "tcp", net.JoinHostPort(loopback, "0"))
	}
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	addr, ok := l.Addr().(*net.TCPAddr)
	if err := l.Close(); err != nil || !ok {
		return 0, fmt.Errorf("give back the free port %v: %w", l.Addr(), err)
	}
	return addr.Port, nil
}

// logFile is what a server printed, in one file of bounded size.
type logFile struct {
	path string
	from int64 // where the present start began
}

// logBytesMax is where a log is put aside (one older one is kept): enough for weeks of a
// development server that has nothing to say.
const logBytesMax = 4 << 20

// open appends to the log, after putting a long one aside.
func (l *logFile) open() (*os.File, error) {
	if info, err := os.Stat(l.path); err == nil && info.Size() > logBytesMax {
		if err := os.Rename(l.path, l.path+".1"); err != nil {
			return nil, fmt.Errorf("put the log aside: %w", err)
		}
	}
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("open the log: %w", err)
	}
	l.from = info.Size()
	return f, nil
}

// tail answers the last lines of the present start.
func (l *logFile) tail() string {
	const bytesMax, linesMax = 4 << 10, 12 // what still reads well in an error
	f, err := os.Open(l.path)
	if err != nil {
		return "(no log)"
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return "(no log)"
	}
	from := max(l.from, info.Size()-bytesMax)
	buf := make([]byte, max(0, info.Size()-from))
	n, _ := f.ReadAt(buf, from) // a short read is a shorter tail
	lines := strings.Split(strings.TrimSpace(string(buf[:n])), "\n")
	return strings.Join(lines[max(0, len(lines)-linesMax):], "\n")
}
