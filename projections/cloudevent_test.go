package projections

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore"
)

// samples are the recorded events of the domain's golden files, one of each type.
func samples(tb testing.TB) []domain.Recorded {
	tb.Helper()
	files, err := filepath.Glob("../domain/testdata/events/*.v1.json")
	if err != nil || len(files) < len(domain.EventTypes()) {
		tb.Fatalf("%d samples, %v", len(files), err)
	}
	var recorded []domain.Recorded
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		body = []byte(strings.TrimSpace(string(body)))
		kind := strings.TrimSuffix(filepath.Base(file), ".v1.json")
		e, err := domain.DecodeEvent(domain.EventType(kind), 1, body)
		if err != nil {
			tb.Fatal(err)
		}
		at := time.Date(2026, 11, 22, 3, 4, 5, 678_901_000, time.UTC)
		recorded = append(recorded, domain.Recorded{Tenant: "acme", Version: int64(len(recorded) + 1), Time: at, Event: e, Body: body})
	}
	return recorded
}

func TestEveryEventTravelsUnchanged(t *testing.T) {
	t.Parallel()
	for _, r := range samples(t) {
		m := Message(r)
		got, err := Decode(m.Payload)
		if err != nil || !reflect.DeepEqual(got, r) {
			t.Errorf("%s: %v\ngot  %+v\nwant %+v", domain.TypeOf(r.Event), err, got, r)
		}
		if !json.Valid(m.Payload) || !strings.Contains(string(m.Payload), string(r.Body)) {
			t.Errorf("%s: not the stored bytes: %s", domain.TypeOf(r.Event), m.Payload)
		}
	}
}

func TestMessageIsACloudEvent(t *testing.T) {
	t.Parallel()
	body := `{"budgetId":"bud_1","actor":"<admin> & Söhne"}`
	e, err := domain.DecodeEvent(domain.TypeBudgetRetired, 1, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	m := Message(domain.Recorded{
		Tenant: "acme", Version: 42, Time: time.Date(2026, 11, 22, 3, 4, 5, 678_900_000, time.UTC), Event: e, Body: []byte(body),
	})
	want := `{"specversion":"1.0","id":"acme:42","source":"/tenants/acme","type":"budgetguard.budget.retired.v1",` +
		`"time":"2026-11-22T03:04:05.6789Z","datacontenttype":"application/json","subject":"bud_1","sequence":"42","data":` + body + `}`
	if string(m.Payload) != want || m.UUID != "acme:42" {
		t.Errorf("%s\ngot  %s\nwant %s", m.UUID, m.Payload, want)
	}
}

func TestSubjectIsTheIDTheBodyBeginsWith(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"reservationId":"r-1","x":1}`: "r-1", `{"apiKeyId":"k"}`: "k", `{"budgetId":"b"}`: "b",
		`{"name":"x","apiKeyId":"k"}`: "", `{"budgetId":"a\"b"}`: "", `{"budgetId":""}`: "", `{"budgetId":"`: "",
	} {
		if got := string(entry{body: []byte(body)}.subject()); got != want {
			t.Errorf("%s: %q, want %q", body, got, want)
		}
	}
}

func TestMessagesThatAreNotOursAreRefused(t *testing.T) {
	t.Parallel()
	r := samples(t)[0]
	good := string(Message(r).Payload)
	for name, payload := range map[string]string{
		"empty": "", "no JSON": "nonsense", "null": "null", "array": "[]",
		"version of the specification": strings.Replace(good, `"1.0"`, `"0.3"`, 1),
		"source":                       strings.Replace(good, "/tenants/", "/elsewhere/", 1),
		"tenant":                       strings.Replace(good, "/tenants/acme", "/tenants/Not A Slug", 1),
		"id":                           strings.Replace(good, `"id":"acme:1"`, `"id":"acme:2"`, 1),
		"sequence":                     strings.Replace(good, `"sequence":"1"`, `"sequence":"one"`, 1),
		"type":                         strings.Replace(good, `"type":"budgetguard.`, `"type":"other.`, 1),
		"no data":                      good[:strings.Index(good, `,"data"`)] + "}",
	} {
		if _, err := Decode([]byte(payload)); !errors.Is(err, ErrBadMessage) {
			t.Errorf("%s: %v", name, err)
		}
	}
	unknown := strings.Replace(good, ".v1", ".v7", 1)
	if _, err := Decode([]byte(unknown)); !errors.Is(err, domain.ErrUnknownEvent) {
		t.Errorf("a later schema: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, r := range samples(f) {
		f.Add([]byte(Message(r).Payload))
	}
	f.Add([]byte(`{"specversion":"1.0","id":"_system:1","source":"/tenants/_system","type":"budgetguard.x.v1","sequence":"1","data":null}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		e, err := decodeEntry(payload)
		if err != nil {
			if !errors.Is(err, ErrBadMessage) {
				t.Errorf("error of another kind: %v", err)
			}
			return
		}
		r, err := e.recorded()
		if err != nil {
			return
		}
		again, err := Decode(Message(r).Payload)
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Errorf("%v\ngot  %+v\nwant %+v", err, again, r)
		}
	})
}

func TestRunsOfTheOutboxAreJoinedAndCut(t *testing.T) {
	t.Parallel()
	type row = eventstore.OutboxRow
	type run = eventstore.Run
	of := func(tenant domain.TenantID, after, upto int64) run {
		return run{Tenant: tenant, After: after, Upto: upto}
	}
	rows := []row{
		{ID: 1, Runs: []run{of("a", 0, 3), of("b", 5, 6)}},
		{ID: 2, Runs: []run{of("a", 3, 4)}},
		{ID: 3, Runs: []run{of("b", 6, 10), of("a", 7, 8)}},
		{ID: 4, Runs: []run{of("a", 8, 9)}},
	}
	runs := coalesce(rows)
	if want := []run{of("a", 0, 4), of("b", 5, 10), of("a", 7, 9)}; !reflect.DeepEqual(runs, want) {
		t.Errorf("joined: %v, want %v", runs, want)
	}
	pieces := cut(runs, 3)
	want := [][]run{{of("a", 0, 3)}, {of("a", 3, 4), of("b", 5, 7)}, {of("b", 7, 10)}, {of("a", 7, 9)}}
	if !reflect.DeepEqual(pieces, want) {
		t.Errorf("cut: %v, want %v", pieces, want)
	}
	if pieces := cut(nil, 3); len(pieces) != 0 {
		t.Errorf("cut nothing: %v", pieces)
	}
}
