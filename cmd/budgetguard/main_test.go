package main

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/budgetguard/budgetguard/internal/testenv"
	"github.com/budgetguard/budgetguard/migrations"
)

// asProgram makes the test binary be the program, so that tests start real processes of the very code
// under test, race detector included.
const asProgram = "BUDGETGUARD_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		code := run(ctx, os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr)
		stop()
		os.Exit(code)
	}
	os.Exit(testenv.Main(m, testenv.WithTemplate(func(ctx context.Context, url string) error {
		_, err := migrations.Up(ctx, url)
		return err
	})))
}

// process is the program, running.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{}

	mu    sync.Mutex
	lines []string
	more  chan struct{}
}

// start runs the program with arguments and exactly these variables beside PATH and HOME. It is killed at
// the end of the test if it still runs.
func start(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	return startCommand(t, exec.Command(os.Args[0], args...), env)
}

// startCommand is start for a command that the test made.
func startCommand(t *testing.T, cmd *exec.Cmd, env []string) *process {
	t.Helper()
	p := &process{cmd: cmd, exited: make(chan struct{}), more: make(chan struct{}, 1)}
	p.cmd.Env = append([]string{asProgram + "=1", "PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}, env...)
	p.cmd.Dir = t.TempDir()
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stderr = p.cmd.Stdout
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.exited)
		scanner := bufio.NewScanner(out)
		scanner.Buffer(nil, 1<<20)
		for scanner.Scan() {
			p.mu.Lock()
			p.lines = append(p.lines, scanner.Text())
			p.mu.Unlock()
			select {
			case p.more <- struct{}{}:
			default:
			}
		}
		_ = p.cmd.Wait() // the exit code is read from the state
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%v printed:\n%s", cmd.Args, p.output())
		}
	})
	return p
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.lines, "\n")
}

// line waits for a line that contains a text and returns it.
func (p *process) line(t *testing.T, text string) string {
	t.Helper()
	deadline := time.After(3 * time.Minute)
	for {
		for l := range strings.SplitSeq(p.output(), "\n") {
			if strings.Contains(l, text) {
				return l
			}
		}
		select {
		case <-p.more:
		case <-p.exited:
			t.Fatalf("the program ended without printing %q:\n%s", text, p.output())
		case <-deadline:
			t.Fatalf("the program did not print %q:\n%s", text, p.output())
		}
	}
}

// kill is kill -9.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended already
	<-p.exited
}

// stop asks the program to end and returns its exit code.
func (p *process) stop(t *testing.T) int {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	return p.wait(t)
}

func (p *process) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-p.exited:
	case <-time.After(2 * time.Minute):
		t.Fatalf("the program did not end:\n%s", p.output())
	}
	return p.cmd.ProcessState.ExitCode()
}
