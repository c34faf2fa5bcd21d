package policy

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// PollInterval is how often [Engine.Watch] should be ticked: a new version is
// in force two to three polls after it was written.
const PollInterval = time.Second

// Engine holds the policy in force and replaces it when its source changes. It
// is safe for concurrent use; decisions never wait for a reload.
type Engine struct {
	path    string
	timeout time.Duration
	current atomic.Pointer[Policy]

	mu   sync.Mutex // One reload at a time; guards seen.
	seen string     // The mark of the source as last judged.
}

// Change is what became of a source that changed.
type Change struct {
	// Revision of the policy in force now.
	Revision string
	// Err says why the new version was refused and the old one stayed; nil
	// means that the source and the policy in force agree.
	Err error
}

// Load reads, checks and prepares the policy at path: a `.rego` file, a
// directory (hidden files and *_test.rego left out), a bundle `.tar.gz`, or a
// `.wasm` module. An empty path is the embedded default, which allows
// everything. Errors are of kind [ErrSource], [ErrSyntax], [ErrNoAllow] or
// [ErrBuiltin], or say what the Rego compiler says.
func Load(path string) (*Engine, error) {
	e := &Engine{path: path, timeout: Timeout}
	src, err := readSource(path)
	if err != nil {
		return nil, err
	}
	p, err := prepare(context.Background(), src, e.timeout)
	if err != nil {
		return nil, err
	}
	e.current.Store(p)
	e.seen = src.fingerprint
	return e, nil
}

// Current is the policy in force.
func (e *Engine) Current() *Policy {
	return e.current.Load()
}

// Revision is [Policy.Revision] of the policy in force.
func (e *Engine) Revision() string {
	return e.Current().Revision()
}

// NeedsBalances is [Policy.NeedsBalances] of the policy in force.
func (e *Engine) NeedsBalances() bool {
	return e.Current().NeedsBalances()
}

// Decide is [Policy.Decide] of the policy in force.
func (e *Engine) Decide(ctx context.Context, in Input) (Decision, error) {
	return e.Current().Decide(ctx, in)
}

// Reload reads the source now and tells whether another version came in force.
// On an error the old version stays.
func (e *Engine) Reload(ctx context.Context) (bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	before := e.Revision()
	src, err := readSource(e.path)
	change := e.judge(ctx, src, err)
	return change.Revision != before, change.Err
}

// Watch follows the source until ctx is done: at each tick it reads the source,
// and a version that two ticks in a row found the same is judged: a file that
// is still being written is no policy yet. report, which may be nil, is called
// once for each version judged, be it accepted or refused, and also when a
// source that had been refused is back to what is in force; log and count
// there. Watch starts no goroutine.
func (e *Engine) Watch(ctx context.Context, ticks <-chan time.Time, report func(Change)) {
	last := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks:
		}
		change, judged := e.poll(ctx, &last)
		if judged && report != nil && ctx.Err() == nil {
			report(change)
		}
	}
}

// poll reads the source and judges it if it is new and settled. last is the
// mark of the poll before.
func (e *Engine) poll(ctx context.Context, last *string) (Change, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	src, err := readSource(e.path)
	now := mark(src, err)
	settled := now == *last
	*last = now
	if now == e.seen || !settled {
		return Change{}, false
	}
	return e.judge(ctx, src, err), true
}

// judge puts src in force if it can be. The caller holds mu.
func (e *Engine) judge(ctx context.Context, src source, err error) Change {
	e.seen = mark(src, err)
	inForce := e.Current()
	if err == nil && src.fingerprint != inForce.fingerprint {
		var next *Policy
		if next, err = prepare(ctx, src, e.timeout); err == nil {
			e.current.Store(next)
			inForce = next
		}
	}
	if err != nil {
		err = fmt.Errorf("keep policy %s: %w", inForce.Revision(), err)
	}
	return Change{Revision: inForce.Revision(), Err: err}
}

// mark tells one state of a source from another, unreadable ones included.
func mark(src source, err error) string {
	if err != nil {
		return "unreadable: " + err.Error()
	}
	return src.fingerprint
}
