package embedded

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// both runs a rule for either server.
func both(t *testing.T, rule func(t *testing.T, start func(context.Context, Config) (*Server, error))) {
	t.Helper()
	for name, start := range map[string]func(context.Context, Config) (*Server, error){"postgres": StartPostgres, "redis": StartRedis} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rule(t, start)
		})
	}
}

func TestSecondUserOfADirectoryIsRefused(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, start func(context.Context, Config) (*Server, error)) {
		t.Helper()
		cfg := config(newDir(t))
		s := started(t, start, cfg)
		_, err := start(t.Context(), cfg)
		var inUse *InUseError
		if !errors.As(err, &inUse) || !errors.Is(err, ErrInUse) {
			t.Fatalf("got %v, want ErrInUse", err)
		}
		wantEqual(t, "holder", inUse.Holder, strconv.Itoa(os.Getpid()))
		if err := Remove(cfg.Dir); !errors.Is(err, ErrInUse) {
			t.Errorf("remove: got %v, want ErrInUse", err)
		}
		check(t, s.Stop(t.Context()))
		started(t, start, cfg)
	})
}

func TestServerThatOutlivedItsParentIsStoppedByTheNextStart(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, start func(context.Context, Config) (*Server, error)) {
		t.Helper()
		cfg := config(newDir(t))
		first := started(t, start, cfg)
		pid := first.PID()
		first.abandon()
		second := started(t, start, cfg)
		wantEqual(t, "what runs under the old pid", commandLine(pid), "")
		wantEqual(t, "URL", second.URL(), first.URL())
	})
}

func TestFrozenServerIsKilledByTheNextStart(t *testing.T) {
	t.Parallel()
	s := startRedis(t, config(newDir(t)))
	pid, ours := s.kind.orphan(s)
	wantEqual(t, "pid in the file", pid, s.PID())
	wantEqual(t, "recognised", ours(), true)
	check(t, syscall.Kill(pid, syscall.SIGSTOP))
	steps := s.steps()
	for i := range steps[:2] {
		steps[i].wait = 5 * pollEvery
	}
	check(t, stopOrphan(t.Context(), pid, ours, steps))
	gone(t, pid)
}

func TestServersEndWhenTheirParentIsKilled(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	h := startHolder(t, dir, nil)
	check(t, h.Process.Kill())
	_ = h.Wait()
	// Where the kernel does not tell them, the next start must.
	pg, rd := startPostgres(t, config(dir)), startRedis(t, config(dir))
	gone(t, h.PostgresPID)
	gone(t, h.RedisPID)
	wantEqual(t, "answer", query(t, pg, "select 'yes'"), "yes")
	check(t, client(t, rd).Ping(t.Context()).Err())
}

func TestServersRunAsAnOrdinaryUser(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	var as *syscall.Credential
	if os.Geteuid() == 0 {
		as = &syscall.Credential{Uid: 65534, Gid: 65534}
		check(t, os.Chown(dir, 65534, 65534))
	}
	h := startHolder(t, dir, as)
	owner, err := ownerOf(filepath.Join(dir, "postgres"))
	check(t, err)
	if owner.uid == 0 {
		t.Error("the data belongs to root")
	}
	check(t, h.stdin.Close())
	check(t, h.Wait())
}

func TestDataThatTheServerCouldNotReachGoesWhereItCan(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() // of root: closed to all others
	t.Cleanup(func() { check(t, Remove(dir)) })
	cfg := config(dir)
	s := startPostgres(t, cfg)
	outside := filepath.Dir(s.Data()) != dir
	wantEqual(t, "data outside the directory", outside, os.Geteuid() == 0)
	query(t, s, "create table kept as select 'yes' as answer")
	check(t, s.Stop(t.Context()))

	again := startPostgres(t, cfg)
	wantEqual(t, "data", again.Data(), s.Data())
	wantEqual(t, "the row", query(t, again, "select answer from kept"), "yes")
	check(t, again.Stop(t.Context()))
	check(t, Remove(dir))
	if _, err := os.Stat(s.Data()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("data after Remove: got %v, want none", err)
	}
}

func TestDataKeepsItsOwner(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	data := filepath.Join(dir, "redis")
	check(t, os.Mkdir(data, 0o700))
	want := os.Geteuid()
	if want == 0 {
		want = 4242 // nobody we know: only the owner counts
		check(t, os.Chown(data, want, want))
	}
	s := startRedis(t, config(dir))
	wantEqual(t, "uid", s.at.who.uid, want)
	owner, err := ownerOf(filepath.Join(data, redisPid))
	check(t, err)
	wantEqual(t, "owner of a file", owner.uid, want)
}

func TestPasswordsAreReadableByTheOwnerOnlyAndInNoArgumentList(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, start func(context.Context, Config) (*Server, error)) {
		t.Helper()
		s := started(t, start, config(newDir(t)))
		info, err := os.Stat(s.file(".password"))
		check(t, err)
		wantEqual(t, "mode of the password", info.Mode().Perm(), fs.FileMode(0o600))
		wantEqual(t, "length of the password", len(s.password), 32)
		if line := commandLine(s.PID()); line == "" || strings.Contains(line, s.password) {
			t.Errorf("argument list %q is empty or has the password", line)
		}
		if log, err := os.ReadFile(s.file(".log")); err != nil || strings.Contains(string(log), s.password) {
			t.Errorf("the log is missing (%v) or has the password", err)
		}
		info, err = os.Stat(s.Data())
		check(t, err)
		wantEqual(t, "mode of the data", info.Mode().Perm(), fs.FileMode(0o700))
	})
}

func TestRemoveLeavesWhatIsNotOurs(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	s := startRedis(t, config(dir))
	check(t, s.Stop(t.Context()))
	theirs := filepath.Join(dir, "dev.env")
	check(t, os.WriteFile(theirs, nil, 0o600))
	check(t, Remove(dir))
	entries, err := os.ReadDir(dir)
	check(t, err)
	if len(entries) != 1 || entries[0].Name() != "dev.env" {
		t.Errorf("left over: %v, want dev.env", entries)
	}
	check(t, os.Remove(theirs))
	check(t, Remove(dir))
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the empty directory: got %v, want none", err)
	}
}

func TestEmptyDirIsRefused(t *testing.T) {
	t.Parallel()
	if _, err := StartRedis(t.Context(), Config{}); err == nil {
		t.Error("data would go into the working directory")
	}
}

func TestLongLogIsPutAside(t *testing.T) {
	t.Parallel()
	l := logFile{path: filepath.Join(t.TempDir(), "log")}
	check(t, os.WriteFile(l.path, make([]byte, logBytesMax+1), 0o600))
	f, err := l.open()
	check(t, err)
	_, err = f.WriteString(strings.Repeat("line\n", 40) + "last")
	check(t, errors.Join(err, f.Close()))
	if _, err := os.Stat(l.path + ".1"); err != nil {
		t.Error(err)
	}
	wantEqual(t, "tail", l.tail(), strings.Repeat("line\n", 11)+"last")
}

func TestCachedClustersOfEarlierBootsAreNotUsed(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	old, now := cacheOf(root, "15.1"), cacheOf(root, "15.2")
	old.dir = filepath.Join(root, cachePrefix+"15.1-an-earlier-boot")
	check(t, os.MkdirAll(old.dir, 0o700))
	cluster := t.TempDir()
	check(t, os.WriteFile(filepath.Join(cluster, "PG_VERSION"), []byte("15\n"), 0o600))
	check(t, now.fill(cluster, "secret"))
	check(t, now.fill(cluster, "of the one who came second"))
	entries, err := os.ReadDir(root)
	check(t, err)
	if len(entries) != 1 || filepath.Join(root, entries[0].Name()) != now.dir {
		t.Errorf("cache: %v, want %s only", entries, now.dir)
	}
	raw, err := os.ReadFile(filepath.Join(now.dir, "password"))
	check(t, err)
	wantEqual(t, "password", string(raw), "secret\n")
}
