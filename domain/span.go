package domain

import (
	"strconv"
	"strings"
	"time"
)

// Span is what a period's name leaves open about its windows. Most periods need nothing of it.
type Span struct {
	// Length of a rolling window.
	Duration Length `json:"duration,omitempty"`
	// First day, or instant, of a custom window, as it was asked for.
	StartDate string `json:"startDate,omitempty"`
	// Last day of a custom window, or the first instant after it, as it was asked for.
	EndDate string `json:"endDate,omitempty"`
	// First day of a weekly window; absent: monday.
	WeekStart Weekday `json:"weekStart,omitempty"`
	// Day of the month a monthly window begins on, the last one of a shorter month; absent: 1.
	AnchorDay int64 `json:"anchorDay,omitempty"`
}

// same tells whether two budgets of one period and scope are one: for a rolling budget by its duration, for
// a custom one by its dates. Where a week or month begins is a property of the budget, not its name.
func (s Span) same(t Span) bool {
	return s.Duration == t.Duration && s.StartDate == t.StartDate && s.EndDate == t.EndDate
}

// Length is the duration of a rolling window: whole minutes, written like "90m", "24h" or "30d".
type Length time.Duration

const (
	// buckets is how many parts a rolling window is counted in. A part counts until its end has left the
	// window, so the window is longer by less than one of them: at most 1.7 % is admitted late, never early.
	buckets = 60
	// minLength gives a bucket a whole second; maxLength bounds what has to be remembered.
	minLength = Length(time.Minute)
	maxLength = Length(366 * 24 * time.Hour)
)

// ParseLength reads whole minutes, hours or days, such as 90m, 24h or 30d; anything else is ErrInvalid.
func ParseLength(text string) (Length, error) {
	units := map[string]time.Duration{"m": time.Minute, "h": time.Hour, "d": 24 * time.Hour}
	if n := len(text); n > 1 && n < 9 {
		unit, known := units[text[n-1:]]
		count, err := strconv.ParseUint(text[:n-1], 10, 31)
		if length := Length(count) * Length(unit); known && err == nil && length >= minLength && length <= maxLength {
			return length, nil
		}
	}
	return 0, invalid("duration %.20q: want minutes, hours or days from 1m to 366d, such as 90m, 24h or 30d", text)
}

// String is the shortest way to write the length.
func (l Length) String() string {
	switch d := time.Duration(l); {
	case d > 24*time.Hour && d%(24*time.Hour) == 0:
		return strconv.FormatInt(int64(d/(24*time.Hour)), 10) + "d"
	case d%time.Hour == 0:
		return strconv.FormatInt(int64(d/time.Hour), 10) + "h"
	default:
		return strconv.FormatInt(int64(d/time.Minute), 10) + "m"
	}
}

// MarshalText writes the length as String does.
func (l Length) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText reads a length. See ParseLength.
func (l *Length) UnmarshalText(text []byte) error {
	parsed, err := ParseLength(string(text))
	if err != nil {
		return err
	}
	*l = parsed
	return nil
}

// Weekday is a day in English, lower case. The zero value is monday.
type Weekday string

// ParseWeekday accepts the seven names; monday is the zero value, anything else ErrInvalid.
func ParseWeekday(text string) (Weekday, error) {
	for day := time.Sunday; day <= time.Saturday; day++ {
		if text == strings.ToLower(day.String()) {
			if day == time.Monday {
				return "", nil
			}
			return Weekday(text), nil
		}
	}
	return "", invalid("weekStart %.20q: want a day such as monday or sunday", text)
}

// day is the weekday as package time counts it.
func (w Weekday) day() time.Weekday {
	for day := time.Sunday; day <= time.Saturday; day++ {
		if string(w) == strings.ToLower(day.String()) {
			return day
		}
	}
	return time.Monday
}

// maxAnchor is the last day a month can have.
const maxAnchor = 31

// check tells whether the span says what its period needs and no more.
func (s Span) check(p Period) error {
	if (p == Rolling) != (s.Duration != 0) {
		return invalid("duration: a rolling budget needs one, and no other has one")
	}
	if s.Duration != 0 && (s.Duration < minLength || s.Duration > maxLength || s.Duration%minLength != 0) {
		return invalid("duration: want whole minutes from 1m to 366d")
	}
	if dated := s.StartDate != "" && s.EndDate != ""; (p == Custom) != dated || (!dated && s.StartDate+s.EndDate != "") {
		return invalid("startDate, endDate: a custom budget needs both, and no other has any")
	}
	if _, err := ParseWeekday(string(s.WeekStart)); s.WeekStart != "" && (p != Weekly || err != nil) {
		return invalid("weekStart: want a day such as sunday, of a weekly budget")
	}
	if s.AnchorDay != 0 && (p != Monthly || s.AnchorDay < 1 || s.AnchorDay > maxAnchor) {
		return invalid("anchorDay: want 1 to %d, of a monthly budget", maxAnchor)
	}
	return nil
}

// normal is the span with one spelling for one meaning.
func (s Span) normal() Span {
	if s.AnchorDay == 1 {
		s.AnchorDay = 0
	}
	if day, err := ParseWeekday(string(s.WeekStart)); err == nil {
		s.WeekStart = day
	}
	return s
}

// custom is the window between two dates (the second one is its last day) or instants (the second one is
// its end), where days are those of a zone.
func (s Span) custom(zone *time.Location) (Window, error) {
	start, _, err := instant("startDate", s.StartDate, zone)
	if err != nil {
		return Window{}, err
	}
	end, day, err := instant("endDate", s.EndDate, zone)
	if err != nil {
		return Window{}, err
	}
	if day {
		_, end, _ = dayOf(s.EndDate, zone)
	}
	if !start.Before(end) {
		return Window{}, invalid("startDate, endDate: %s is not after %s", s.EndDate, s.StartDate)
	}
	if all := totalWindow(); start.Before(all.Start) || end.After(all.End) {
		return Window{}, invalid("startDate, endDate: want days from 1970 to 9998")
	}
	return Window{Start: start, End: end}, nil
}

// instant is when a date begins, or an instant of RFC 3339 in whole microseconds.
func instant(name, text string, zone *time.Location) (at time.Time, day bool, err error) {
	if first, _, ok := dayOf(text, zone); ok {
		return first, true, nil
	}
	at, err = time.Parse(time.RFC3339, text)
	at = at.UTC()
	if err != nil || at.Truncate(time.Microsecond) != at {
		return at, false, invalid("%s: %.40q: want a date such as 2026-12-31 or an instant such as 2026-12-31T12:00:00Z", name, text)
	}
	return at, false, nil
}

// dayOf is the interval of a date in a zone. A day that never was is of length zero.
func dayOf(text string, zone *time.Location) (first, next time.Time, ok bool) {
	wall, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return first, next, false
	}
	return crossing(wall, zone).UTC(), crossing(wall.AddDate(0, 0, 1), zone).UTC(), true
}
