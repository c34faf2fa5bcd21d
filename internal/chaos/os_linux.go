package main

import (
	"fmt"
	"os"
	"syscall"
)

// attributes of children: a Ctrl-C is for us, who end them in order, and if we are killed the kernel ends them.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// mountDisk makes a file system of a bounded size in memory. It needs root.
func mountDisk(dir string, size int64) error {
	if err := os.MkdirAll(dir, 0o711); err != nil { //nolint:gosec // the server's user passes through
		return err
	}
	return syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0711", size))
}

// unmountDisk takes it away, also while somebody still looks at it.
func unmountDisk(dir string) error { return syscall.Unmount(dir, syscall.MNT_DETACH) }

// resizeDisk gives the file system another size.
func resizeDisk(dir string, size int64) error {
	return syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, fmt.Sprintf("size=%d", size))
}

// fillDisk leaves a file system the room it uses and not a page more.
func fillDisk(dir string) error {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(dir, &stat); err != nil {
		return err
	}
	used := int64(stat.Blocks-stat.Bfree) * stat.Bsize //nolint:gosec // a file system of ours, of some gigabytes
	if err := resizeDisk(dir, used); err != nil {
		return fmt.Errorf("fill the disk: %w", err)
	}
	return nil
}
