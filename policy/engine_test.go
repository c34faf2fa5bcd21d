package policy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

const (
	allowing = header + "allow := true\n"
	denying  = header + "allow := false\n"
	broken   = header + "allow := {\n"
)

// replace puts text at path at once, as an editor or a deployment does.
func replace(t *testing.T, path, text string) {
	t.Helper()
	next := write(t, path+".next", text)
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
}

func TestReloadPutsANewVersionInForceAndKeepsTheOldWhenBroken(t *testing.T) {
	t.Parallel()
	path := write(t, filepath.Join(t.TempDir(), "policy.rego"), allowing)
	e := loadPath(t, path)
	first := e.Revision()

	if changed, err := e.Reload(t.Context()); changed || err != nil {
		t.Errorf("same file: got %v, %v", changed, err)
	}
	replace(t, path, broken)
	if changed, err := e.Reload(t.Context()); changed || !errors.Is(err, ErrSyntax) || !strings.Contains(err.Error(), first) {
		t.Errorf("broken file: got %v, %v; want ErrSyntax naming %s", changed, err, first)
	}
	decides(t, e, Input{}, "")
	replace(t, path, denying)
	if changed, err := e.Reload(t.Context()); !changed || err != nil || e.Revision() == first {
		t.Errorf("new file: got %v, %v", changed, err)
	}
	if d, err := e.Decide(t.Context(), Input{Now: noon()}); err != nil || d.Allow || d.Revision == first {
		t.Errorf("got %+v, %v; want denied by the new version", d, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if changed, err := e.Reload(t.Context()); changed || !errors.Is(err, ErrSource) {
		t.Errorf("no file: got %v, %v; want ErrSource", changed, err)
	}
}

func TestACallerKeepsTheVersionItAskedAbout(t *testing.T) {
	t.Parallel()
	path := write(t, filepath.Join(t.TempDir(), "policy.rego"), allowing)
	e := loadPath(t, path)
	before := e.Current()
	replace(t, path, denying)
	if _, err := e.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d, err := before.Decide(t.Context(), Input{Now: noon()}); err != nil || !d.Allow || d.Revision != before.Revision() {
		t.Errorf("got %+v, %v; want the version taken before", d, err)
	}
}

// watched runs Watch for the test. tick returns after a poll is over.
type watched struct {
	ticks   chan time.Time
	changes []Change
}

func watch(t *testing.T, e *Engine) *watched {
	t.Helper()
	w := &watched{ticks: make(chan time.Time)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.Watch(ctx, w.ticks, func(c Change) { w.changes = append(w.changes, c) })
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return w
}

// poll ticks n times, and once more to know that the n-th poll is over.
func (w *watched) poll(n int) {
	for range n + 1 {
		w.ticks <- time.Time{}
	}
}

func TestWatchReportsEachVersionOnce(t *testing.T) {
	t.Parallel()
	path := write(t, filepath.Join(t.TempDir(), "policy.rego"), allowing)
	e := loadPath(t, path)
	first := e.Revision()
	w := watch(t, e)

	steps := []struct {
		text    string
		reports int
		err     error
		inForce string
	}{
		{allowing, 0, nil, first},
		{broken, 1, ErrSyntax, first},
		{broken, 0, nil, first},
		{allowing, 1, nil, first}, // Back to what is in force: the alarm is over.
		{denying, 1, nil, revisionOf(denying)},
		{header + "x := 1\n", 1, ErrNoAllow, revisionOf(denying)},
		{broken, 1, ErrSyntax, revisionOf(denying)},
		{allowing, 1, nil, first},
	}
	for i, s := range steps {
		before := len(w.changes)
		replace(t, path, s.text)
		w.poll(5)
		got := w.changes[before:]
		if len(got) != s.reports {
			t.Fatalf("step %d: reports %+v, want %d", i, got, s.reports)
		}
		if s.reports == 1 && (!errors.Is(got[0].Err, s.err) || got[0].Revision != s.inForce || (s.err == nil) != (got[0].Err == nil)) {
			t.Errorf("step %d: report %+v, want %v in force, error %v", i, got[0], s.inForce, s.err)
		}
		if e.Revision() != s.inForce {
			t.Errorf("step %d: %s in force, want %s", i, e.Revision(), s.inForce)
		}
	}
}

func revisionOf(text string) string {
	return file("", []byte(text)).fingerprint[:revisionDigits]
}

func TestWatchWaitsForAFileToSettle(t *testing.T) {
	t.Parallel()
	path := write(t, filepath.Join(t.TempDir(), "policy.rego"), allowing)
	e := loadPath(t, path)
	last := ""
	for i := range 5 {
		// Each of these would compile, and none is whole.
		replace(t, path, denying+strings.Repeat("# more to come\n", i))
		if change, judged := e.poll(t.Context(), &last); judged {
			t.Fatalf("judged a file that was still growing: %+v", change)
		}
	}
	if change, judged := e.poll(t.Context(), &last); !judged || change.Err != nil || change.Revision != e.Revision() {
		t.Errorf("got %+v, %v; want the settled file in force", change, judged)
	}
}

func TestWatchSeesAFileThatVanishesAndReturns(t *testing.T) {
	t.Parallel()
	path := write(t, filepath.Join(t.TempDir(), "policy.rego"), allowing)
	w := watch(t, loadPath(t, path))
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	w.poll(5)
	write(t, path, allowing)
	w.poll(5)
	if len(w.changes) != 2 || !errors.Is(w.changes[0].Err, ErrSource) || w.changes[1].Err != nil {
		t.Errorf("reports %+v; want one that it is gone and one that it is back", w.changes)
	}
}

func TestWatchEndsWithItsContext(t *testing.T) {
	t.Parallel()
	e := loadPath(t, "")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	e.Watch(ctx, nil, nil)
}

func TestDecisionsDuringReloadsComeFromOneWholeVersion(t *testing.T) {
	t.Parallel()
	const versions = 20
	text := func(i int) string {
		return fmt.Sprintf("%sdefault allow := false\ndeny contains \"version %03d\"\n", header, i)
	}
	path := write(t, filepath.Join(t.TempDir(), "policy.rego"), text(0))
	e := loadPath(t, path)
	messages := map[string]string{}
	for i := range versions {
		messages[revisionOf(text(i))] = fmt.Sprintf("version %03d", i)
	}
	stop := make(chan struct{})
	var askers sync.WaitGroup
	for range 4 {
		askers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				d, err := e.Decide(context.Background(), Input{Now: noon(), Tags: map[string]string{"a": "b"}})
				if err != nil || len(d.Messages) != 1 || messages[d.Revision] != d.Messages[0] {
					t.Errorf("got %+v, %v; want %q", d, err, messages[d.Revision])
					return
				}
				e.NeedsBalances()
			}
		})
	}
	for i := range versions {
		replace(t, path, text(i))
		if _, err := e.Reload(t.Context()); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	askers.Wait()
}

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}
