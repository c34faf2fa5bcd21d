package domain

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// ErrUnknownEvent says that the stream holds a type, or a schema version, this build cannot read. It is
// never skipped: a ledger that skips is wrong.
var ErrUnknownEvent = errors.New("unknown event")

// TypeOf is the event's name in the stream, such as usage.reserved. It is never renamed.
func TypeOf(e Event) EventType { return e.eventType() }

// EncodeEvent writes the bytes that are stored and hashed: JSON with the fields in the order of the
// type, times in RFC 3339 UTC, money as decimal strings. The same event gives the same bytes.
func EncodeEvent(e Event) ([]byte, error) {
	body, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", TypeOf(e), err)
	}
	return body, nil
}

// DecodeEvent reads a stored body. A type or schema version that this build does not know, a field the
// schema does not have and anything after the document are errors.
func DecodeEvent(t EventType, schema int, body []byte) (Event, error) {
	if schema != SchemaVersion {
		return nil, fmt.Errorf("%w: %.80q with schema version %d", ErrUnknownEvent, t, schema)
	}
	decode, ok := decoderOf(t)
	if !ok {
		return nil, fmt.Errorf("%w: %.80q", ErrUnknownEvent, t)
	}
	e, err := decode(body)
	if err != nil {
		return nil, fmt.Errorf("decode %s: %w", t, err)
	}
	return e, nil
}

// EventTypes lists every type of the catalogue in the order of the contract.
func EventTypes() []EventType {
	return []EventType{
		TypeTenantCreated, TypeTenantChanged, TypeTenantSuspended, TypeTenantResumed,
		TypeAPIKeyIssued, TypeAPIKeyRotated, TypeAPIKeyRevoked, TypeAPIKeySuspended, TypeAPIKeyResumed,
		TypeRateLimitChanged,
		TypeBudgetDefined, TypeBudgetChanged, TypeBudgetRetired, TypeBudgetThresholdCrossed,
		TypeWindowOpened, TypeWindowSlid,
		TypeUsageReserved, TypeReservationExtended, TypeUsageSettled, TypeReservationReleased,
		TypeReservationExpired, TypeUsageSettledLate, TypeUsageAdjusted,
	}
}

func decoderOf(t EventType) (func([]byte) (Event, error), bool) {
	if decode, ok := usageDecoderOf(t); ok {
		return decode, true
	}
	switch t { //nolint:exhaustive // the types of usageDecoderOf are handled above
	case TypeTenantCreated:
		return decodeAs[TenantCreated], true
	case TypeTenantChanged:
		return decodeAs[TenantChanged], true
	case TypeTenantSuspended:
		return decodeAs[TenantSuspended], true
	case TypeTenantResumed:
		return decodeAs[TenantResumed], true
	case TypeAPIKeyIssued:
		return decodeAs[APIKeyIssued], true
	case TypeAPIKeyRotated:
		return decodeAs[APIKeyRotated], true
	case TypeAPIKeyRevoked:
		return decodeAs[APIKeyRevoked], true
	case TypeAPIKeySuspended:
		return decodeAs[APIKeySuspended], true
	case TypeAPIKeyResumed:
		return decodeAs[APIKeyResumed], true
	case TypeRateLimitChanged:
		return decodeAs[RateLimitChanged], true
	case TypeBudgetDefined:
		return decodeAs[BudgetDefined], true
	case TypeBudgetChanged:
		return decodeAs[BudgetChanged], true
	case TypeBudgetRetired:
		return decodeAs[BudgetRetired], true
	case TypeBudgetThresholdCrossed:
		return decodeAs[BudgetThresholdCrossed], true
	case TypeWindowOpened:
		return decodeAs[WindowOpened], true
	case TypeWindowSlid:
		return decodeAs[WindowSlid], true
	}
	return nil, false
}

func usageDecoderOf(t EventType) (func([]byte) (Event, error), bool) {
	switch t { //nolint:exhaustive // the administrative types are in decoderOf
	case TypeUsageReserved:
		return decodeAs[UsageReserved], true
	case TypeReservationExtended:
		return decodeAs[ReservationExtended], true
	case TypeUsageSettled:
		return decodeAs[UsageSettled], true
	case TypeReservationReleased:
		return decodeAs[ReservationReleased], true
	case TypeReservationExpired:
		return decodeAs[ReservationExpired], true
	case TypeUsageSettledLate:
		return decodeAs[UsageSettledLate], true
	case TypeUsageAdjusted:
		return decodeAs[UsageAdjusted], true
	}
	return nil, false
}

func decodeAs[E Event](body []byte) (Event, error) {
	var e E
	if !bytes.HasPrefix(bytes.TrimSpace(body), []byte("{")) {
		return nil, errors.New("not an object") // json would read null as an event without a single field
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&e); err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("data after the document")
	}
	return e, nil
}

func (TenantCreated) eventType() EventType          { return TypeTenantCreated }
func (TenantChanged) eventType() EventType          { return TypeTenantChanged }
func (TenantSuspended) eventType() EventType        { return TypeTenantSuspended }
func (TenantResumed) eventType() EventType          { return TypeTenantResumed }
func (APIKeyIssued) eventType() EventType           { return TypeAPIKeyIssued }
func (APIKeyRotated) eventType() EventType          { return TypeAPIKeyRotated }
func (APIKeyRevoked) eventType() EventType          { return TypeAPIKeyRevoked }
func (APIKeySuspended) eventType() EventType        { return TypeAPIKeySuspended }
func (APIKeyResumed) eventType() EventType          { return TypeAPIKeyResumed }
func (RateLimitChanged) eventType() EventType       { return TypeRateLimitChanged }
func (BudgetDefined) eventType() EventType          { return TypeBudgetDefined }
func (BudgetChanged) eventType() EventType          { return TypeBudgetChanged }
func (BudgetRetired) eventType() EventType          { return TypeBudgetRetired }
func (BudgetThresholdCrossed) eventType() EventType { return TypeBudgetThresholdCrossed }
func (WindowOpened) eventType() EventType           { return TypeWindowOpened }
func (WindowSlid) eventType() EventType             { return TypeWindowSlid }
func (UsageReserved) eventType() EventType          { return TypeUsageReserved }
func (ReservationExtended) eventType() EventType    { return TypeReservationExtended }
func (UsageSettled) eventType() EventType           { return TypeUsageSettled }
func (ReservationReleased) eventType() EventType    { return TypeReservationReleased }
func (ReservationExpired) eventType() EventType     { return TypeReservationExpired }
func (UsageSettledLate) eventType() EventType       { return TypeUsageSettledLate }
func (UsageAdjusted) eventType() EventType          { return TypeUsageAdjusted }
