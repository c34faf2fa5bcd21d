package projections

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/budgetguard/budgetguard/domain"
)

const (
	typePrefix   = "budgetguard."
	sourcePrefix = "/tenants/"
	specVersion  = "1.0"
)

// ErrBadMessage says that an entry of the stream is not an event of ours.
var ErrBadMessage = errors.New("not an event of the ledger")

// entry is an event as it travels: its body is not decoded, so an event that is newer than this build is
// carried too.
type entry struct {
	tenant  domain.TenantID
	version int64
	time    time.Time
	kind    domain.EventType
	schema  int
	body    []byte
}

// Message is a recorded event as it is published: a CloudEvents 1.0 document in structured mode, whose
// data is the stored body, byte for byte. The message's UUID is the CloudEvents id, <tenant>:<version>.
func Message(r domain.Recorded) *message.Message {
	return entry{
		tenant: r.Tenant, version: r.Version, time: r.Time,
		kind: domain.TypeOf(r.Event), schema: domain.SchemaVersion, body: r.Body,
	}.message()
}

// Decode reads the payload of a message that Message made. Its errors are ErrBadMessage, or
// domain.ErrUnknownEvent for an event this build does not know. The hash is not on the stream.
func Decode(payload []byte) (domain.Recorded, error) {
	e, err := decodeEntry(payload)
	if err != nil {
		return domain.Recorded{}, err
	}
	return e.recorded()
}

func (e entry) recorded() (domain.Recorded, error) {
	event, err := domain.DecodeEvent(e.kind, e.schema, e.body)
	if err != nil {
		return domain.Recorded{}, fmt.Errorf("version %d of %s: %w", e.version, e.tenant, err)
	}
	return domain.Recorded{Tenant: e.tenant, Version: e.version, Time: e.time, Event: event, Body: e.body}, nil
}

func (e entry) id() string { return string(e.tenant) + ":" + strconv.FormatInt(e.version, 10) }

// message writes the document by hand: encoding/json would compact and escape the body. What else goes
// in needs no escaping: tenants are slugs, types and versions are ours.
func (e entry) message() *message.Message {
	id := e.id()
	b := make([]byte, 0, len(e.body)+320) // the attributes take about 280 bytes
	b = append(b, `{"specversion":"`+specVersion+`","id":"`...)
	b = append(b, id...)
	b = append(b, `","source":"`+sourcePrefix...)
	b = append(b, e.tenant...)
	b = append(b, `","type":"`+typePrefix...)
	b = append(b, e.kind...)
	b = append(b, ".v"...)
	b = strconv.AppendInt(b, int64(e.schema), 10)
	b = append(b, `","time":"`...)
	b = e.time.UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, `","datacontenttype":"application/json"`...)
	if subject := e.subject(); subject != nil {
		b = append(b, `,"subject":"`...)
		b = append(b, subject...)
		b = append(b, '"')
	}
	b = append(b, `,"sequence":"`...)
	b = strconv.AppendInt(b, e.version, 10)
	b = append(b, `","data":`...)
	b = append(b, e.body...)
	b = append(b, '}')
	return message.NewMessage(id, b)
}

// subject is the id of what the event is about: the reservation, key or budget. It is the first field of
// the body in every event that has one, because bodies are written in the order of their types.
func (e entry) subject() []byte {
	for _, field := range [...]string{`{"reservationId":"`, `{"apiKeyId":"`, `{"budgetId":"`} {
		rest, ok := bytes.CutPrefix(e.body, []byte(field))
		if !ok {
			continue
		}
		value, _, ok := bytes.Cut(rest, []byte(`"`))
		if !ok || len(value) == 0 || bytes.IndexByte(value, '\\') >= 0 {
			return nil
		}
		return value
	}
	return nil
}

func decodeEntry(payload []byte) (entry, error) {
	var doc struct {
		SpecVersion string          `json:"specversion"`
		ID          string          `json:"id"`
		Source      string          `json:"source"`
		Type        string          `json:"type"`
		Time        time.Time       `json:"time"`
		Sequence    string          `json:"sequence"`
		Data        json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(payload, &doc); err != nil {
		return entry{}, fmt.Errorf("%w: %w", ErrBadMessage, err)
	}
	tenant, ours := strings.CutPrefix(doc.Source, sourcePrefix)
	if doc.SpecVersion != specVersion || !ours || !isTenant(tenant) || len(doc.Data) == 0 {
		return entry{}, fmt.Errorf("%w: attributes of %.80q", ErrBadMessage, doc.ID)
	}
	version, err := strconv.ParseInt(doc.Sequence, 10, 64)
	if err != nil || version < 1 {
		return entry{}, fmt.Errorf("%w: sequence %.40q", ErrBadMessage, doc.Sequence)
	}
	kind, schema, err := parseType(doc.Type)
	if err != nil {
		return entry{}, err
	}
	e := entry{tenant: domain.TenantID(tenant), version: version, time: doc.Time.UTC(), kind: kind, schema: schema, body: doc.Data}
	if e.id() != doc.ID {
		return entry{}, fmt.Errorf("%w: id %.80q is not %s", ErrBadMessage, doc.ID, e.id())
	}
	return e, nil
}

func parseType(s string) (domain.EventType, int, error) {
	rest, ours := strings.CutPrefix(s, typePrefix)
	at := strings.LastIndex(rest, ".v")
	if !ours || at < 1 {
		return "", 0, fmt.Errorf("%w: type %.80q", ErrBadMessage, s)
	}
	schema, err := strconv.Atoi(rest[at+2:])
	if err != nil || schema < 1 {
		return "", 0, fmt.Errorf("%w: type %.80q", ErrBadMessage, s)
	}
	return domain.EventType(rest[:at]), schema, nil
}

// isTenant tells whether a stream can have this name: a tenant's, or a reserved one such as _system.
func isTenant(s string) bool {
	_, err := domain.ParseTenantID(strings.TrimPrefix(s, "_"))
	return err == nil
}
