package domain_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	. "github.com/budgetguard/budgetguard/domain"
)

func goldenFile(t EventType) string {
	return filepath.Join("testdata", "events", string(t)+".v1.json")
}

func golden(tb testing.TB, eventType EventType) []byte {
	tb.Helper()
	body, err := os.ReadFile(goldenFile(eventType))
	if err != nil {
		tb.Fatal(err)
	}
	return body
}

// A golden file is what some ledger out there holds. It is written once, by -update when it does not
// exist, and never changed: a change of these bytes is a new schema version. The test is not parallel, so
// that -update has written the files when the parallel tests read them.
func TestGoldenEventsDecodeAndEncodeToTheSameBytes(t *testing.T) {
	written := map[EventType]Event{}
	for _, e := range samples() {
		written[TypeOf(e)] = e
		writeGolden(t, e)
	}
	goldensComplete(t)
	for _, eventType := range EventTypes() {
		body := golden(t, eventType)
		e, err := DecodeEvent(eventType, SchemaVersion, body)
		if err != nil {
			t.Errorf("%s: %v", eventType, err)
			continue
		}
		if again, err := EncodeEvent(e); err != nil || !bytes.Equal(again, body) {
			t.Errorf("%s encodes to\n%s, %v; the stored bytes are\n%s", eventType, again, err, body)
		}
		if !reflect.DeepEqual(e, written[eventType]) || TypeOf(e) != eventType {
			t.Errorf("%s decodes to\n%+v; want\n%+v", eventType, e, written[eventType])
		}
		if path := emptyField(reflect.ValueOf(e)); path != "" {
			t.Errorf("the golden %s leaves %s empty", eventType, path)
		}
	}
}

// What earlier builds wrote, before their types gained fields, still reads and writes as it was.
func TestEventsOfEarlierBuildsKeepTheirBytes(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/events-*/*.v1.json")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		e, err := DecodeEvent(EventType(strings.TrimSuffix(filepath.Base(file), ".v1.json")), SchemaVersion, body)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if again, err := EncodeEvent(e); err != nil || !bytes.Equal(again, body) {
			t.Errorf("%s encodes to\n%s, %v; the stored bytes are\n%s", file, again, err, body)
		}
	}
}

// The reason of an expiry came later than the event: what was stored before is read, and written, as it was.
func TestExpiriesStoredWithoutAReasonStayAsTheyAre(t *testing.T) {
	t.Parallel()
	stored := bytes.Replace(golden(t, TypeReservationExpired), []byte(`"reason":"orphaned",`), nil, 1)
	e, err := DecodeEvent(TypeReservationExpired, SchemaVersion, stored)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := EncodeEvent(e); err != nil || !bytes.Equal(again, stored) || bytes.Contains(stored, []byte("reason")) {
		t.Errorf("%s becomes %s, %v", stored, again, err)
	}
}

func writeGolden(t *testing.T, e Event) {
	t.Helper()
	if _, err := os.Stat(goldenFile(TypeOf(e))); err == nil || !*update {
		return
	}
	body, err := EncodeEvent(e)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(goldenFile(TypeOf(e)), body, 0o644); err != nil {
		t.Fatal(err)
	}
}

// emptyField names the first exported field that is zero; Forced is true in one of two postings.
func emptyField(v reflect.Value) string {
	switch {
	case v.Kind() == reflect.Slice && v.Len() > 0:
		return emptyField(v.Index(0))
	case v.Kind() != reflect.Struct || v.IsZero() || v.NumField() == 0 || !v.Type().Field(0).IsExported():
		return ""
	}
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			return v.Type().Field(i).Name
		}
		if path := emptyField(v.Field(i)); path != "" {
			return v.Type().Field(i).Name + "." + path
		}
	}
	return ""
}

// goldensComplete tells that every type of the catalogue has its file, and that no file is left over.
func goldensComplete(t *testing.T) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "events", "*"))
	if err != nil {
		t.Fatal(err)
	}
	want := make([]string, 0, len(EventTypes()))
	for _, eventType := range EventTypes() {
		want = append(want, goldenFile(eventType))
	}
	slices.Sort(want)
	if !slices.Equal(files, want) {
		t.Errorf("goldens are %v; want %v", files, want)
	}
}

func TestDecodeRefusesWhatItWouldHaveToGuess(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rule    string
		kind    EventType
		schema  int
		body    string
		unknown bool
	}{
		{"an unknown type", "usage.invented", 1, `{}`, true},
		{"no type", "", 1, `{}`, true},
		{"a later schema version", TypeTenantResumed, 2, `{"actor":"admin"}`, true},
		{"schema version zero", TypeTenantResumed, 0, `{"actor":"admin"}`, true},
		{"an unknown field", TypeTenantResumed, 1, `{"actor":"admin","extra":1}`, false},
		{"an unknown field inside", TypeUsageAdjusted, 1, `{"postings":[{"extra":1}]}`, false},
		{"data after the document", TypeTenantResumed, 1, `{"actor":"admin"}{}`, false},
		{"a bracket after the document", TypeTenantResumed, 1, `{"actor":"admin"}]`, false},
		{"half a document", TypeTenantResumed, 1, `{"actor":"admin"`, false},
		{"nothing", TypeTenantResumed, 1, ``, false},
		{"null", TypeTenantResumed, 1, `null`, false},
		{"an array", TypeTenantResumed, 1, `[]`, false},
		{"a field of another type", TypeTenantResumed, 1, `{"actor":1}`, false},
		{"money with ten places", TypeBudgetDefined, 1, `{"limitUsd":"0.0000000001"}`, false},
		{"money that is null", TypeBudgetDefined, 1, `{"limitUsd":null}`, false},
		{"a zone that is not known", TypeTenantChanged, 1, `{"timezone":"Mars/Olympus"}`, false},
		{"a time without a zone", TypeWindowOpened, 1, `{"windowStart":"2026-11-22"}`, false},
	} {
		e, err := DecodeEvent(c.kind, c.schema, []byte(c.body))
		if err == nil || e != nil || errors.Is(err, ErrUnknownEvent) != c.unknown {
			t.Errorf("%s: got %v, %v", c.rule, e, err)
		}
	}
}

func TestEncodeRefusesATimeThatJSONCannotWrite(t *testing.T) {
	t.Parallel()
	if body, err := EncodeEvent(WindowOpened{Start: at("2026-11-22").AddDate(9000, 0, 0)}); err == nil {
		t.Errorf("got %s", body)
	}
}

func FuzzDecodeEvent(f *testing.F) {
	for i, eventType := range EventTypes() {
		f.Add(uint8(i), golden(f, eventType))
	}
	f.Add(uint8(0), []byte(`{"name":"\ud800","timezone":"utc"}`))
	f.Add(uint8(9), []byte(`{"limitUsd":1.50,"OldLimitUsd":"-0","postings":[{}],"limitUsd":2}`))
	f.Fuzz(func(t *testing.T, index uint8, body []byte) {
		types := EventTypes()
		eventType := types[int(index)%len(types)]
		e, err := DecodeEvent(eventType, SchemaVersion, body)
		if err != nil {
			return
		}
		encoded, err := EncodeEvent(e)
		if err != nil {
			t.Fatalf("%s was accepted from %q but cannot be encoded: %v", eventType, body, err)
		}
		back, err := DecodeEvent(eventType, SchemaVersion, encoded)
		if err != nil || TypeOf(back) != eventType {
			t.Fatalf("%s does not decode: %v", encoded, err)
		}
		if again, err := EncodeEvent(back); err != nil || !bytes.Equal(again, encoded) {
			t.Fatalf("%s encodes to %s, then to %s, %v", eventType, encoded, again, err)
		}
	})
}

func BenchmarkCodec(b *testing.B) {
	for _, eventType := range []EventType{TypeUsageReserved, TypeUsageSettled, TypeWindowOpened} {
		body := golden(b, eventType)
		e, err := DecodeEvent(eventType, SchemaVersion, body)
		if err != nil {
			b.Fatal(err)
		}
		b.Run("encode/"+string(eventType), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := EncodeEvent(e); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("decode/"+string(eventType), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := DecodeEvent(eventType, SchemaVersion, body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
