package domain_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	. "github.com/budgetguard/budgetguard/domain"
)

func TestLengthsAreWholeMinutesHoursOrDays(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct {
		length time.Duration
		text   string
	}{
		"1m": {time.Minute, "1m"}, "90m": {90 * time.Minute, "90m"}, "60m": {time.Hour, "1h"}, "24h": {24 * time.Hour, "24h"}, "1d": {24 * time.Hour, "24h"},
		"25h": {25 * time.Hour, "25h"}, "48h": {48 * time.Hour, "2d"}, "30d": {30 * 24 * time.Hour, "30d"}, "366d": {366 * 24 * time.Hour, "366d"}, "527040m": {366 * 24 * time.Hour, "366d"},
		"007m": {7 * time.Minute, "7m"},
	} {
		got, err := ParseLength(text)
		if err != nil || time.Duration(got) != want.length || got.String() != want.text {
			t.Errorf("%q: got %s, %v; want %s", text, got, err, want.text)
		}
	}
	var kept Length
	if err := kept.UnmarshalText([]byte("1x")); !errors.Is(err, ErrInvalid) {
		t.Errorf("read: %v", err)
	}
	for _, text := range []string{"", "m", "1", "0m", "-1m", "+1m", "1s", "1w", "1M", "1.5h", "1h30m", "367d", "8785h", "527041m", " 1m", "1m ", "9999999m", "12345678m", "1_0m", "१m"} {
		if got, err := ParseLength(text); !errors.Is(err, ErrInvalid) || got != 0 {
			t.Errorf("%q: got %s, %v; want ErrInvalid", text, got, err)
		}
	}
}

func TestWeekdaysAreEnglishLowerCase(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Weekday{"monday": "", "tuesday": "tuesday", "saturday": "saturday", "sunday": "sunday"} {
		if got, err := ParseWeekday(text); err != nil || got != want {
			t.Errorf("%q: got %q, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "Monday", "mon", "someday", "sunday "} {
		if got, err := ParseWeekday(text); !errors.Is(err, ErrInvalid) || got != "" {
			t.Errorf("%q: got %q, %v; want ErrInvalid", text, got, err)
		}
	}
}

// FuzzParseLength: what is accepted is a length a budget can have, and writes back as itself.
func FuzzParseLength(f *testing.F) {
	for _, seed := range []string{"1m", "90m", "24h", "30d", "366d", "367d", "0m", "-1m", "+1m", "1.5h", "99999999m", "", "m", "1e1h", "١d"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ParseLength(text)
		if err != nil {
			if !errors.Is(err, ErrInvalid) || got != 0 {
				t.Errorf("%q: got %s, %v", text, got, err)
			}
			return
		}
		if d := time.Duration(got); d < time.Minute || d > 366*24*time.Hour || d%time.Minute != 0 {
			t.Fatalf("%q is %s", text, d)
		}
		var back Length
		written, err := got.MarshalText()
		if err != nil || back.UnmarshalText(written) != nil || back != got {
			t.Errorf("%q is %s, written %q, read %s", text, got, written, back)
		}
		st := newStage(t)
		if _, err := st.do(rolling("1", time.Duration(got))); err != nil {
			t.Errorf("%q is no budget's: %v", text, err)
		}
	})
}

// FuzzParseWeekday: what is accepted is the lower-case name of a day, and monday is the zero value.
func FuzzParseWeekday(f *testing.F) {
	for _, seed := range []string{"monday", "sunday", "Sunday", "", "sun", "saturday", "ſunday"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ParseWeekday(text)
		known := strings.Contains("|sunday|monday|tuesday|wednesday|thursday|friday|saturday|", "|"+text+"|") && text != "" && !strings.Contains(text, "|")
		if known != (err == nil) || (err != nil && !errors.Is(err, ErrInvalid)) {
			t.Errorf("%q: got %q, %v", text, got, err)
		}
		if known && string(got) != text && text != "monday" {
			t.Errorf("%q: got %q", text, got)
		}
	})
}

// FuzzSpanDates: dates that are accepted are a window that the slow search finds too, and events can write.
func FuzzSpanDates(f *testing.F) {
	for _, seed := range [][2]string{
		{"2026-12-01", "2026-12-31"},
		{"2026-12-01T08:00:00Z", "2026-12-01T18:00:00+01:00"},
		{"2011-12-30", "2011-12-30"},
		{"2026-02-30", "2026-03-01"},
		{"1970-01-01", "9998-12-31"},
		{"1970-01-01", "9999-12-31"},
		{"0000-01-01", "10000-01-01"},
		{"2026-12-01T00:00:00.0000001Z", "2026-12-02"},
		{"2026-12-01T00:00:00,5Z", "2026-12-02"},
		{"2026-12-01T24:00:00Z", "2026-12-02T00:00:00-99:99"},
		{"", ""},
	} {
		for zone := range zoneNames() {
			f.Add(seed[0], seed[1], uint8(zone))
		}
	}
	f.Fuzz(func(t *testing.T, start, end string, zone uint8) {
		st := newStage(t)
		name := zoneNames()[int(zone)%len(zoneNames())]
		mustDo(t, st, moveTo(name))
		version := len(st.log)
		if _, err := st.do(custom("1", start, end)); err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("%q..%q: %v", start, end, err)
			}
			return
		}
		e := st.log[version].Event.(BudgetDefined)
		if e.Start.Year() < 1970 || e.End.After(at("9999-01-01")) {
			t.Errorf("%q..%q is %s..%s", start, end, e.Start, e.End)
		}
		if err := slowCustom(e, location(t, name)); err != nil && e.Start.Year() > 2000 && e.End.Year() < 2100 { // clocks were odd before
			t.Error(err)
		}
		if _, err := EncodeEvent(e); err != nil {
			t.Error(err)
		}
	})
}
