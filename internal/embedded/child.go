package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// child is a process that we started.
type child struct {
	process *os.Process
	done    chan struct{} // closed when it has ended
	err     error         // how; read it after done
}

// spawn starts cmd so that it ends when we do, whatever way we end. Its output
// goes to a file and never to a pipe: a pipe of `go test` would be held open.
func spawn(cmd *exec.Cmd, who account, dies syscall.Signal) (*child, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: who.credential(),
		// A Ctrl-C in the terminal is for us; we stop the server when its users have gone.
		Setpgid: true,
	}
	dieWithParent(cmd.SysProcAttr, dies)
	c := &child{done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel's "parent died" means the thread that forked, not the process.
		// This goroutine keeps its thread for as long as the child lives.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		c.process = cmd.Process
		started <- nil
		c.err = cmd.Wait()
		close(c.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return c, nil
}

// alive tells whether the child has not ended.
func (c *child) alive() bool {
	select {
	case <-c.done:
		return false
	default:
		return true
	}
}

// stop sends the signals one by one, each after the child had a while to follow the
// one before. It returns when the child has ended; an error says that it had to be forced.
func (c *child) stop(ctx context.Context, steps []step) error {
	for i, s := range steps {
		if err := c.process.Signal(s.signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("send %v to pid %d: %w", s.signal, c.process.Pid, err)
		}
		patience := time.NewTimer(s.wait)
		last := i == len(steps)-1
		select {
		case <-c.done:
			patience.Stop()
			return forced(steps, i)
		case <-patience.C:
		case <-whenNot(last, ctx.Done()): // no time left for patience, yet we never leave it running
			patience.Stop()
		}
	}
	return fmt.Errorf("pid %d outlived %v", c.process.Pid, steps[len(steps)-1].signal)
}

// step is a signal and how long its effect may take.
type step struct {
	signal syscall.Signal
	wait   time.Duration
}

func forced(steps []step, i int) error {
	if i == 0 {
		return nil
	}
	return fmt.Errorf("it did not end on %v: sent %v", steps[i-1].signal, steps[i].signal)
}

func whenNot(last bool, done <-chan struct{}) <-chan struct{} {
	if last {
		return nil
	}
	return done
}

// stopOrphan stops a process that is no child of ours: `ours` says, each time it
// is asked, whether the pid is still the server that we mean.
func stopOrphan(ctx context.Context, pid int, ours func() bool, steps []step) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for _, s := range steps {
		if !ours() {
			return nil
		}
		if err := syscall.Kill(pid, s.signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("stop the server that an earlier run left behind (pid %d): %w", pid, err)
		}
		step, cancel := context.WithTimeout(ctx, s.wait)
		for step.Err() == nil && ours() {
			select {
			case <-tick.C:
			case <-step.Done():
			}
		}
		cancel()
	}
	if ours() {
		return fmt.Errorf("the server that an earlier run left behind (pid %d) does not end: kill it by hand", pid)
	}
	return nil
}
