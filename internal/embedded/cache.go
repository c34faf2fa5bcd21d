package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// initCache is an initialised cluster that never ran, with its password beside it.
type initCache struct{ dir string } // "" for none

func cacheOf(root, version string) initCache {
	if root == "" {
		return initCache{}
	}
	return initCache{dir: filepath.Join(root, cachePrefix+version+"-"+bootID())}
}

const cachePrefix = "initdb-"

// bootID changes with every start of the machine ("any" where it has no such id). The cache was never
// flushed to the disk: a later boot, perhaps after a power cut, does not trust it.
func bootID() string {
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "any"
	}
	return strings.TrimSpace(string(raw))
}

// copyTo copies the cached cluster and takes over its password. It answers false where there is none.
func (c initCache) copyTo(dir string, s *Server) (bool, error) {
	if c.dir == "" {
		return false, nil
	}
	raw, err := os.ReadFile(filepath.Join(c.dir, "password"))
	if err != nil {
		return false, nil //nolint:nilerr // no cache, or one that is not for us: there is always initdb
	}
	err = errors.Join(
		os.CopyFS(dir, os.DirFS(filepath.Join(c.dir, "data"))),
		os.Chmod(dir, 0o700), //nolint:gosec // Postgres demands just this of a directory
		s.at.who.chownAll(dir),
		os.WriteFile(s.file(".password"), raw, 0o600), //nolint:gosec // a name of ours in the directory that we were given
	)
	if err != nil {
		return false, fmt.Errorf("copy the cached cluster: %w", err)
	}
	s.password, s.fresh = strings.TrimSpace(string(raw)), false
	return true, nil
}

// fill keeps a copy of a cluster that was just made. Two processes may do so at
// once: the first rename wins, and the other copy is thrown away.
func (c initCache) fill(cluster, password string) error {
	if c.dir == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(c.dir), 0o700); err != nil {
		return fmt.Errorf("make the cache of clusters: %w", err)
	}
	half, err := os.MkdirTemp(filepath.Dir(c.dir), "half-")
	if err != nil {
		return fmt.Errorf("make the cache of clusters: %w", err)
	}
	defer func() { _ = os.RemoveAll(half) }()
	if err := os.CopyFS(filepath.Join(half, "data"), os.DirFS(cluster)); err != nil {
		return fmt.Errorf("cache the cluster: %w", err)
	}
	if err := os.WriteFile(filepath.Join(half, "password"), []byte(password+"\n"), 0o600); err != nil {
		return fmt.Errorf("cache the cluster: %w", err)
	}
	c.removeOld()
	err = os.Rename(half, c.dir)
	if err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, syscall.ENOTEMPTY) {
		return fmt.Errorf("cache the cluster: %w", err)
	}
	return nil
}

// removeOld deletes the clusters of earlier boots; nobody uses them. What cannot be deleted is in nobody's way.
func (c initCache) removeOld() {
	all, err := filepath.Glob(filepath.Join(filepath.Dir(c.dir), cachePrefix+"*"))
	if err != nil {
		return
	}
	for _, dir := range all {
		if !strings.HasSuffix(dir, "-"+bootID()) {
			_ = os.RemoveAll(dir)
		}
	}
}
