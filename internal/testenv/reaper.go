package testenv

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// reap waits for the end of its standard input, which is ours to hold open, and then clears up.
//
//go:embed reap.sh
var reap string

// reaper is a shell process that outlives this one by a moment.
type reaper struct {
	cmd  *exec.Cmd
	hold *os.File // closed by us, or by the kernel when we die
}

// watch sets a reaper on a directory.
func watch(dir string) (*reaper, error) {
	stdin, hold, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start the reaper: %w", err)
	}
	defer func() { _ = stdin.Close() }()                                                 // the reaper has its own
	cmd := exec.CommandContext(context.Background(), "/bin/sh", "-c", reap, "reap", dir) //nolint:gosec // our own script; the directory is an argument, not text of it
	cmd.Stdin = stdin
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // what kills our group must not kill it
	if err := cmd.Start(); err != nil {
		_ = hold.Close()
		return nil, fmt.Errorf("start the reaper: %w", err)
	}
	return &reaper{cmd: cmd, hold: hold}, nil
}

// dismiss lets the reaper go; with the directory removed it has nothing to do.
func (r *reaper) dismiss() error {
	_ = r.hold.Close()
	if err := r.cmd.Wait(); err != nil {
		return fmt.Errorf("dismiss the reaper: %w", err)
	}
	return nil
}
