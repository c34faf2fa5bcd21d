package flight

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/budgetguard/budgetguard/domain"
)

const (
	// compactFrom is the size from which a file is written anew with the calls that are open.
	compactFrom = 8 << 20
	// reviveAfter is how long a recorder that cannot write waits before it tries again.
	reviveAfter = time.Second
	// maxDoubts bounds the reservations whose outcome was unknown. Of an older one the ledger has known for long.
	maxDoubts = 1024
)

// Config says how a Recorder works. All is needed but Failed.
type Config struct {
	// Dir is where the file is; made if it is missing. It must be on a disk of this machine.
	Dir    string
	Header Header
	Now    func() time.Time
	// Failed is told when something cannot be recorded, while that lasts once a second; it must not block.
	Failed func(error)
}

// Recorder writes the file of this process. It is safe for concurrent use, and a nil one records nothing.
// Where it cannot write it keeps its memory, throws the file away, which could say of a call that was sent
// that it was not, and writes a new one when it can.
type Recorder struct {
	cfg  Config
	path string

	mu        sync.Mutex
	file      file // nil while it cannot write
	size      int64
	compactAt int64
	reviveAt  time.Time
	buffer    []byte
	open      map[domain.ReservationID]entry
	began     uint64
	doubts    []domain.ReservationID
	closed    bool
	create    func(path string) (file, error)
}

// file is what a Recorder does to its file.
type file interface {
	io.WriterAt
	io.Closer
	Truncate(size int64) error
}

// entry is what the recorder knows of an open call.
type entry struct {
	began      uint64 // its place in the order
	tenant     domain.TenantID
	dispatched bool
	closing    []byte // the command, if it was decided
	kind       kind   // of closing
}

// Open makes the directory if it is missing and begins this process's file.
func Open(cfg Config) (*Recorder, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open flight recorder: %w", err)
	}
	r := &Recorder{cfg: cfg, path: filepath.Join(cfg.Dir, fileName(cfg.Header.Gateway)), open: map[domain.ReservationID]entry{}, create: createLocked}
	if r.cfg.Failed == nil {
		r.cfg.Failed = func(error) {}
	}
	if err := r.rewrite(); err != nil {
		return nil, fmt.Errorf("open flight recorder: %w", err)
	}
	return r, nil
}

// Reserved says that a reservation is about to be asked for.
func (r *Recorder) Reserved(tenant domain.TenantID, id domain.ReservationID) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	r.began++
	r.open[id] = entry{began: r.began, tenant: tenant}
	r.write(kindReserved, id, []byte(tenant))
}

// Doubted says that the ledger did not say whether it made the reservation, and will release it if it did.
func (r *Recorder) Doubted(id domain.ReservationID) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.doubts = append(r.doubts, id); len(r.doubts) > maxDoubts {
		r.end(r.doubts[0])
		r.doubts = slices.Delete(r.doubts, 0, 1)
	}
}

// Dispatched says that the call is about to be sent: from here on the provider may bill it.
func (r *Recorder) Dispatched(id domain.ReservationID) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.open[id]
	if !ok || e.dispatched || r.closed {
		return
	}
	e.dispatched = true
	r.open[id] = e
	r.write(kindDispatched, id, nil)
}

// Closing says which command is about to be given to the ledger.
func (r *Recorder) Closing(c domain.Command) {
	if r == nil {
		return
	}
	k, id, body, err := encodeClosing(c)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.cfg.Failed(fmt.Errorf("flight recorder: %w", err))
	}
	e, ok := r.open[id]
	if !ok || err != nil || r.closed {
		return
	}
	e.kind, e.closing = k, body
	r.open[id] = e
	r.write(k, id, body)
}

// Closed says that nothing is held any more, or never was.
func (r *Recorder) Closed(id domain.ReservationID) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.end(id)
}

func (r *Recorder) end(id domain.ReservationID) {
	if _, ok := r.open[id]; !ok || r.closed {
		return
	}
	delete(r.open, id)
	r.write(kindClosed, id, nil)
}

// Drained says that the ledger was closed and has written all: what was in doubt it has released, or never made.
func (r *Recorder) Drained() {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range r.doubts {
		r.end(id)
	}
	r.doubts = nil
}

// Close ends the file and tells how many calls it leaves to the next start. Without any it is removed.
func (r *Recorder) Close() (left int, err error) {
	if r == nil {
		return 0, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return 0, nil
	}
	r.closed = true
	if r.file == nil {
		return len(r.open), nil
	}
	if len(r.open) == 0 {
		err = os.Remove(r.path) // before the lock is given back, so that nobody finds it
	}
	return len(r.open), errors.Join(err, r.file.Close())
}

// write appends a record, or brings a file that was given up to life again. The caller holds the mutex.
func (r *Recorder) write(k kind, id domain.ReservationID, rest []byte) {
	if r.file == nil {
		r.revive()
		return
	}
	framed, err := frame(r.buffer[:0], k, id, rest)
	if err != nil { // without this record the replay charges the hold, which is the safe side
		r.cfg.Failed(fmt.Errorf("flight recorder: %w", err))
		return
	}
	r.buffer = framed
	if _, err := r.file.WriteAt(framed, r.size); err != nil {
		r.giveUp(err)
		return
	}
	if r.size += int64(len(framed)); r.size < r.compactAt {
		return
	}
	if err := r.rewrite(); err != nil {
		r.compactAt = 2 * r.size
		r.cfg.Failed(fmt.Errorf("compact the flight recorder: %w", err))
	}
}

// giveUp throws the file away: it lacks a record, and could claim that a call was never sent.
func (r *Recorder) giveUp(cause error) {
	err := r.file.Truncate(0)
	if gone := os.Remove(r.path); err != nil && gone != nil {
		cause = fmt.Errorf("%w; remove %s before the next start, it lacks what happened since: %w", cause, r.path, errors.Join(err, gone))
	}
	_ = r.file.Close() // nothing of it is needed any more
	r.file = nil
	r.reviveAt = r.cfg.Now().Add(reviveAfter)
	r.cfg.Failed(fmt.Errorf("flight recorder: calls are not recorded until it can write again: %w", cause))
}

func (r *Recorder) revive() {
	if r.cfg.Now().Before(r.reviveAt) {
		return
	}
	if err := r.rewrite(); err != nil {
		r.reviveAt = r.cfg.Now().Add(reviveAfter)
		r.cfg.Failed(fmt.Errorf("flight recorder: calls are still not recorded: %w", err))
	}
}

// rewrite puts a file with what is open now in the place of the present one.
func (r *Recorder) rewrite() error {
	image, err := r.image()
	if err != nil {
		return err
	}
	temporary := r.path + temporarySuffix
	fresh, err := r.create(temporary)
	if err != nil {
		return err
	}
	if _, err = fresh.WriteAt(image, 0); err == nil {
		err = os.Rename(temporary, r.path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temporary), fresh.Close())
	}
	if r.file != nil {
		_ = r.file.Close() // it has no name any more
	}
	r.file, r.size = fresh, int64(len(image))
	r.compactAt = max(compactFrom, 2*r.size)
	return nil
}

// image is a whole file.
func (r *Recorder) image() ([]byte, error) {
	header, err := json.Marshal(r.cfg.Header)
	if err != nil {
		return nil, err
	}
	image, err := frame(nil, kindHeader, "", header)
	if err != nil {
		return nil, err
	}
	for _, id := range slices.SortedFunc(maps.Keys(r.open), func(a, b domain.ReservationID) int {
		return cmp.Compare(r.open[a].began, r.open[b].began)
	}) {
		e := r.open[id]
		if image, err = frame(image, kindReserved, id, []byte(e.tenant)); err != nil {
			continue // as it was when the call began
		}
		if e.dispatched {
			image, _ = frame(image, kindDispatched, id, nil) // its id fitted before
		}
		if e.closing != nil {
			if whole, err := frame(image, e.kind, id, e.closing); err == nil {
				image = whole
			}
		}
	}
	return image, nil
}

// fileName is a gateway's file. Its name is made of the machine's and is no path.
func fileName(gateway string) string {
	harmless := func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' {
			return c
		}
		return '_'
	}
	return strings.Map(harmless, gateway) + suffix
}
