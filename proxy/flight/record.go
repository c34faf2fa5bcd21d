package flight

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"

	"github.com/budgetguard/budgetguard/domain"
)

// kind is what a record says.
type kind byte

const (
	kindHeader     kind = 'H' // who writes the file, as JSON
	kindReserved   kind = 'R' // tenant
	kindDispatched kind = 'D' // from here on the provider may bill
	kindSettle     kind = 'S' // the closing command, as JSON
	kindPresume    kind = 'P'
	kindRelease    kind = 'F'
	kindClosed     kind = 'X' // the ledger has it
)

const (
	// frameSize is the length and the checksum before each record, both little-endian.
	frameSize = 8
	// maxRecord bounds a record. A settlement takes some 300 bytes; only an absurd model name makes a large one.
	maxRecord = 64 << 10
	// maxID is what the length of an id fits into.
	maxID = 255
)

// Header says whose file it is.
type Header struct {
	// Gateway is the name that the gateway's reservations carry.
	Gateway string `json:"gateway"`
	// Boot is the machine's present run, empty where it cannot be told.
	Boot string `json:"boot"`
	// Build is the program's version, for people.
	Build string `json:"build"`
}

// frame appends a record to b: kind, length of the id, id, rest.
func frame(b []byte, k kind, id domain.ReservationID, rest []byte) ([]byte, error) {
	size := 2 + len(id) + len(rest)
	if len(id) > maxID || size > maxRecord {
		return b, fmt.Errorf("a record of %d bytes is too large", size)
	}
	at := len(b)
	b = append(b, make([]byte, frameSize)...)
	b = append(b, byte(k), byte(len(id))) //nolint:gosec // at most maxID
	b = append(b, id...)
	b = append(b, rest...)
	payload := b[at+frameSize:]
	binary.LittleEndian.PutUint32(b[at:], uint32(len(payload))) //nolint:gosec // at most maxRecord
	binary.LittleEndian.PutUint32(b[at+4:], checksum(payload))
	return b, nil
}

// checksum uses the polynomial that processors compute; its table is made once, by the library.
func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// record is a frame's content.
type record struct {
	kind kind
	id   domain.ReservationID
	rest []byte
}

func parse(payload []byte) (record, error) {
	if len(payload) < 2 || len(payload) < 2+int(payload[1]) {
		return record{}, fmt.Errorf("%w: a record of %d bytes is too short", ErrDamaged, len(payload))
	}
	end := 2 + int(payload[1])
	return record{kind: kind(payload[0]), id: domain.ReservationID(payload[2:end]), rest: payload[end:]}, nil
}

// encodeClosing is a closing command as a record. Other commands close nothing: a bug.
func encodeClosing(c domain.Command) (kind, domain.ReservationID, []byte, error) {
	var k kind
	var id domain.ReservationID
	switch c := c.(type) {
	case domain.Settle:
		k, id = kindSettle, c.Reservation
	case domain.SettlePresumed:
		k, id = kindPresume, c.Reservation
	case domain.Release:
		k, id = kindRelease, c.Reservation
	default:
		return 0, "", nil, fmt.Errorf("%T closes no reservation", c)
	}
	body, err := json.Marshal(c)
	return k, id, body, err
}

func decodeClosing(r record) (domain.Command, error) {
	var c domain.Command
	var err error
	var of domain.ReservationID
	switch r.kind { //nolint:exhaustive // the caller has seen to the others
	case kindSettle:
		var s domain.Settle
		err = json.Unmarshal(r.rest, &s)
		c, of = s, s.Reservation
	case kindPresume:
		var s domain.SettlePresumed
		err = json.Unmarshal(r.rest, &s)
		c, of = s, s.Reservation
	case kindRelease:
		var s domain.Release
		err = json.Unmarshal(r.rest, &s)
		c, of = s, s.Reservation
	default:
		return nil, fmt.Errorf("%w: a record of kind %q", ErrDamaged, byte(r.kind))
	}
	if err == nil && of != r.id {
		err = fmt.Errorf("it closes %.40q", of)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: the end of %.40q cannot be read: %w", ErrDamaged, r.id, err)
	}
	return c, nil
}
