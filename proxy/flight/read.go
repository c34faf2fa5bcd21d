package flight

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/budgetguard/budgetguard/domain"
)

// ErrDamaged says that a file holds what no recorder wrote. What comes before it was read all the same.
var ErrDamaged = errors.New("the flight recorder's file is damaged")

// maxCalls bounds what a hostile file makes the reader keep. A recorder with so many open calls is far beyond
// what a gateway serves.
const maxCalls = 1_000_000

// The reasons that a replay gives the ledger.
const (
	ReasonNeverDispatched = "never_dispatched"
	ReasonGatewayDied     = "gateway_died"
)

// Call is a reservation that was open when its gateway ended.
type Call struct {
	Tenant      domain.TenantID
	Reservation domain.ReservationID
	Dispatched  bool
	// Closing is the command the gateway had decided on, nil if it had not come so far.
	Closing domain.Command
}

// Command is what closes the reservation now. Whole says that what the file lacks did not happen.
func (c Call) Command(whole bool) domain.Command {
	switch {
	case c.Closing != nil:
		return c.Closing
	case !c.Dispatched && whole:
		return domain.Release{Reservation: c.Reservation, Reason: ReasonNeverDispatched}
	}
	return domain.SettlePresumed{Reservation: c.Reservation, Reason: ReasonGatewayDied}
}

// Log is what a file says: the calls without an end, in the order they began.
type Log struct {
	Header Header
	Calls  []Call
}

// Read reads a file. A last record that breaks off was never finished, so what it was to allow did not happen;
// it is left out. Anything else that is not right is ErrDamaged, with what could be read before it.
func Read(r io.Reader) (Log, error) {
	frames := &frames{from: r}
	first, err := frames.next()
	if err != nil {
		return Log{}, fmt.Errorf("%w: no header: %w", ErrDamaged, err)
	}
	var log Log
	if first.kind != kindHeader || json.Unmarshal(first.rest, &log.Header) != nil || log.Header.Gateway == "" {
		return Log{}, fmt.Errorf("%w: no header", ErrDamaged)
	}
	story := story{open: map[domain.ReservationID]int{}}
	for {
		var next record
		if next, err = frames.next(); err == nil {
			err = story.tell(next)
		}
		if err != nil {
			break
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	log.Calls = story.left()
	return log, err
}

// story folds records. A call that ended leaves a gap, so that the order stays.
type story struct {
	calls []Call
	open  map[domain.ReservationID]int
}

func (s *story) tell(r record) error {
	if r.kind == kindReserved {
		if _, twice := s.open[r.id]; twice || len(s.open) == maxCalls {
			return fmt.Errorf("%w: %.40q begins twice, or there are too many", ErrDamaged, r.id)
		}
		s.shrink()
		s.open[r.id] = len(s.calls)
		s.calls = append(s.calls, Call{Tenant: domain.TenantID(r.rest), Reservation: r.id})
		return nil
	}
	at, ok := s.open[r.id]
	if !ok {
		return fmt.Errorf("%w: %.40q goes on without a beginning", ErrDamaged, r.id)
	}
	switch r.kind { //nolint:exhaustive // the rest are closing commands, or nonsense
	case kindDispatched:
		s.calls[at].Dispatched = true
	case kindClosed:
		delete(s.open, r.id)
	default:
		closing, err := decodeClosing(r)
		if err != nil {
			return err
		}
		s.calls[at].Closing = closing
	}
	return nil
}

// shrink drops the calls that ended once they are the most of the list.
func (s *story) shrink() {
	const few = 1024
	if len(s.calls) < few || len(s.calls) < 2*len(s.open) {
		return
	}
	s.calls = s.left()
	for i, c := range s.calls {
		s.open[c.Reservation] = i
	}
}

func (s *story) left() []Call {
	left := make([]Call, 0, len(s.open))
	for i, c := range s.calls {
		if at, ok := s.open[c.Reservation]; ok && at == i {
			left = append(left, c)
		}
	}
	return left
}

// frames reads records.
type frames struct {
	from io.Reader
	head [frameSize]byte
	body []byte
}

// next is io.EOF at the end, also where the last record breaks off.
func (f *frames) next() (record, error) {
	if _, err := io.ReadFull(f.from, f.head[:]); err != nil {
		return record{}, endOf(err)
	}
	size, sum := binary.LittleEndian.Uint32(f.head[:]), binary.LittleEndian.Uint32(f.head[4:])
	if size > maxRecord {
		return record{}, fmt.Errorf("%w: a record of %d bytes", ErrDamaged, size)
	}
	if cap(f.body) < int(size) {
		f.body = make([]byte, size)
	}
	f.body = f.body[:size]
	if _, err := io.ReadFull(f.from, f.body); err != nil {
		return record{}, endOf(err)
	}
	if checksum(f.body) != sum {
		return record{}, fmt.Errorf("%w: a record's checksum is wrong", ErrDamaged)
	}
	return parse(f.body)
}

func endOf(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return io.EOF
	}
	return err
}
