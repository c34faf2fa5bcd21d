package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	// startWithin bounds a process's start: the gateway loads vocabularies, on a machine that may be busy.
	startWithin = 60 * time.Second
	// stopWithin bounds its orderly end; then it is killed.
	stopWithin = 15 * time.Second
	// tailBytes of a log are shown when its process has died.
	tailBytes = 2000
)

// process is a child of ours.
type process struct {
	name string
	url  string // what its first line says, if it serves
	log  string
	cmd  *exec.Cmd
	done chan struct{}
}

// spawn starts a program with nothing of our environment but PATH and HOME. If it serves, spawn waits for the line
// that says where. Its errors go to a file in dir.
func spawn(ctx context.Context, dir, name string, serves bool, env, args []string) (*process, error) {
	p := &process{name: name, log: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	log, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()                                            // the child has its own
	p.cmd = exec.CommandContext(context.WithoutCancel(ctx), args[0], args[1:]...) //nolint:gosec // programs of ours, that we built
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}, env...)
	p.cmd.Dir = dir
	p.cmd.Stderr = log
	p.cmd.SysProcAttr = attributes()
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	said := make(chan string, 1)
	go func() {
		defer close(p.done)
		p.listen(out, said)
		_ = p.cmd.Wait() // how it ended is in its log
	}()
	if !serves {
		return p, nil
	}
	return p, p.await(ctx, said)
}

// listen passes on the address in the first line that has one, and reads the rest away.
func (p *process) listen(out io.Reader, said chan<- string) {
	lines := bufio.NewScanner(out)
	found := false
	for lines.Scan() {
		if _, address, ok := strings.Cut(lines.Text(), "http://"); ok && !found {
			address, _, _ = strings.Cut(address, " ")
			said <- "http://" + address
			found = true
		}
	}
}

func (p *process) await(ctx context.Context, said <-chan string) error {
	timer := time.NewTimer(startWithin)
	defer timer.Stop()
	select {
	case p.url = <-said:
		return nil
	case <-p.done:
		return p.died()
	case <-timer.C:
		return errors.Join(fmt.Errorf("%s did not say its address within %s:\n%s", p.name, startWithin, p.tail()), p.stop())
	case <-ctx.Done():
		return errors.Join(ctx.Err(), p.stop())
	}
}

func (p *process) died() error { return fmt.Errorf("%s has ended:\n%s", p.name, p.tail()) }

// alive is an error once the process has ended.
func (p *process) alive() error {
	select {
	case <-p.done:
		return p.died()
	default:
		return nil
	}
}

func (p *process) tail() string {
	raw, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(raw[max(0, len(raw)-tailBytes):])
}

func (p *process) address() string { return strings.TrimPrefix(p.url, "http://") }

// stop ends the process in an orderly way, or else at once.
func (p *process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
	timer := time.NewTimer(stopWithin)
	defer timer.Stop()
	select {
	case <-p.done:
		return nil
	case <-timer.C:
	}
	_ = p.cmd.Process.Kill()
	<-p.done
	return fmt.Errorf("%s did not stop within %s and was killed", p.name, stopWithin)
}
