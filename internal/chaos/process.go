package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// startWithin bounds one start: the gateway loads vocabularies, on a machine that is kept busy.
	startWithin = 60 * time.Second
	// restartEvery is how soon a program that could not start is tried again, as an init system would.
	restartEvery = 300 * time.Millisecond
	// stopWithin bounds an orderly end.
	stopWithin = 60 * time.Second
	// tailBytes of a log are shown when its process has died by itself.
	tailBytes = 3000
)

// program is one of the processes under test. It is started again and again.
type program struct {
	name string
	args []string
	env  []string
	// says is part of the line that tells that the program is up.
	says string
	log  string

	mu     sync.Mutex
	binary string
	extra  []string
	cmd    *exec.Cmd
	done   chan struct{}
	asked  bool // its end was asked for
	starts int
	// surprises are the ends that nobody asked for.
	surprises []string
}

// start starts the program, again until it is up: what it depends on may be down.
func (p *program) start(ctx context.Context) error {
	for {
		err := p.once(ctx)
		if err == nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		if err := sleep(ctx, restartEvery); err != nil {
			return err
		}
	}
}

// once starts the program and waits until it says that it is up. One that ends before is no surprise.
func (p *program) once(ctx context.Context) error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the child has its own
	p.mu.Lock()
	cmd := exec.CommandContext(context.WithoutCancel(ctx), p.binary, p.args...) //nolint:gosec // the program we built
	cmd.Env = append(append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}, p.env...), p.extra...)
	p.mu.Unlock()
	cmd.Stderr, cmd.SysProcAttr = log, attributes()
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	up, done := make(chan struct{}), make(chan struct{})
	p.mu.Lock()
	p.cmd, p.done, p.asked = cmd, done, false
	p.starts++
	p.mu.Unlock()
	go func() {
		defer close(done)
		p.listen(out, up)
		_ = cmd.Wait() // how it ended is in its state
		p.ended(cmd, up)
	}()
	return p.await(ctx, up, done)
}

// listen closes up when the program says its line, and reads the rest away.
func (p *program) listen(out io.Reader, up chan struct{}) {
	lines := bufio.NewScanner(out)
	for said := false; lines.Scan(); {
		if !said && strings.Contains(lines.Text(), p.says) {
			said = true
			close(up)
		}
	}
}

// ended notes an end that nobody asked for, of a program that was up.
func (p *program) ended(cmd *exec.Cmd, up chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-up:
	default:
		return
	}
	if !p.asked {
		p.surprises = append(p.surprises, fmt.Sprintf("%s ended by itself (%s):\n%s", p.name, cmd.ProcessState, tail(p.log)))
	}
}

func (p *program) await(ctx context.Context, up, done chan struct{}) error {
	timer := time.NewTimer(startWithin)
	defer timer.Stop()
	select {
	case <-up:
		return nil
	case <-done:
		return fmt.Errorf("%s did not start: %s", p.name, tail(p.log))
	case <-timer.C:
		p.kill()
		return fmt.Errorf("%s did not start within %s: %s", p.name, startWithin, tail(p.log))
	case <-ctx.Done():
		p.kill()
		return ctx.Err()
	}
}

func tail(path string) string {
	raw, err := os.ReadFile(path) //nolint:gosec // a log of ours
	if err != nil {
		return err.Error()
	}
	return string(raw[max(0, len(raw)-tailBytes):])
}

// alive tells whether the process runs.
func (p *program) alive() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// kill is kill -9. It returns when the process has gone.
func (p *program) kill() { _ = p.end(syscall.SIGKILL) }

// stop asks the process to end in order; its exit code must be 0.
func (p *program) stop() error {
	if !p.alive() {
		return nil
	}
	if err := p.end(syscall.SIGTERM); err != nil {
		return err
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("%s was stopped and ended with exit code %d:\n%s", p.name, code, tail(p.log))
	}
	return nil
}

func (p *program) end(with syscall.Signal) error {
	p.mu.Lock()
	cmd, done := p.cmd, p.done
	p.asked = true
	p.mu.Unlock()
	if cmd == nil {
		return nil
	}
	_ = cmd.Process.Signal(with) // it may have ended already
	timer := time.NewTimer(stopWithin)
	defer timer.Stop()
	select {
	case <-done:
		return nil
	case <-timer.C:
	}
	_ = cmd.Process.Kill()
	<-done
	return fmt.Errorf("%s did not end within %s of %s and was killed:\n%s", p.name, stopWithin, with, tail(p.log))
}

// signal sends SIGSTOP or SIGCONT.
func (p *program) signal(s syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return nil
	}
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("send %s to %s: %w", s, p.name, err)
	}
	return nil
}

// as makes the next starts run another build of the program, with more variables.
func (p *program) as(binary string, extra ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.binary, p.extra = binary, extra
}

// sleep waits, or ends with ctx.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
