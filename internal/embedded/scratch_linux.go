package embedded

import (
	"os"
	"syscall"
)

const (
	sharedMemory = "/dev/shm"
	// scratchFreeMin is the room that a test run may need there: a cluster is 30 MB and a database 8 MB.
	scratchFreeMin = 1 << 30
)

// scratchParent is where throw-away data is fastest: in memory, where there is room enough
// (containers often have 64 MB only) and nobody asked for another place by TMPDIR.
// A cluster is copied ten times as fast there as on a disk that never flushes.
func scratchParent() string {
	var stat syscall.Statfs_t
	if os.Getenv("TMPDIR") != "" || syscall.Statfs(sharedMemory, &stat) != nil {
		return os.TempDir()
	}
	const tmpfs = 0x01021994
	if int64(stat.Type) != tmpfs || stat.Bavail*uint64(stat.Bsize) < scratchFreeMin { //nolint:gosec,unconvert // the types differ between architectures; a block size is positive
		return os.TempDir()
	}
	return sharedMemory
}
