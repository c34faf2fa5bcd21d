package domain

import (
	"errors"
	"fmt"
	"time"
)

// Period is the length of a budget's windows.
type Period string

// The periods a budget can have. Custom and Rolling are named by the contract and not decided yet.
const (
	Hourly    Period = "hourly"
	Daily     Period = "daily"
	Weekly    Period = "weekly"
	Monthly   Period = "monthly"
	Quarterly Period = "quarterly"
	Yearly    Period = "yearly"
	Total     Period = "total"
	Custom    Period = "custom"
	Rolling   Period = "rolling"
)

// ErrPeriod says that a period is unknown, or known and not supported yet.
var ErrPeriod = errors.New("unsupported period")

// CalendarPeriods lists what a tenant-wide budget can have today, shortest first.
func CalendarPeriods() []Period {
	return []Period{Hourly, Daily, Weekly, Monthly, Quarterly, Yearly, Total}
}

// ParsePeriod accepts the supported periods; anything else is ErrPeriod.
func ParsePeriod(s string) (Period, error) {
	switch p := Period(s); p {
	case Hourly, Daily, Weekly, Monthly, Quarterly, Yearly, Total:
		return p, nil
	case Custom, Rolling:
		return "", fmt.Errorf("%w: %s budgets are not built yet", ErrPeriod, s)
	}
	return "", fmt.Errorf("%w: %q; want one of hourly, daily, weekly, monthly, quarterly, yearly, total", ErrPeriod, s)
}

// Window is the half-open interval [Start, End) that a limit covers, in UTC and whole microseconds.
type Window struct {
	Start, End time.Time
}

// Contains tells whether t lies in the window: the start belongs to it, the end to the next one.
func (w Window) Contains(t time.Time) bool {
	return !t.Before(w.Start) && t.Before(w.End)
}

// totalWindow has no calendar bounds; these are what Postgres and RFC 3339 can both write.
func totalWindow() Window {
	return Window{
		Start: time.Date(1970, time.January, 1, 0, 0, 0, 0, time.UTC),
		End:   time.Date(9999, time.January, 1, 0, 0, 0, 0, time.UTC),
	}
}

// WindowAt is the window of a calendar period that contains t in the given zone.
//
// A boundary is the earliest instant at which the local wall clock reads the period's first minute or
// later. That holds for midnights that do not exist (Santiago), come twice (Amman) and days that were
// never there (Apia, 2011-12-30, of length zero and skipped), where time.Date answers another day.
// Windows of one zone tile time: each ends where the next begins.
func WindowAt(p Period, t time.Time, zone *time.Location) Window {
	if p == Total {
		return totalWindow()
	}
	first := periodStart(p, wallClock(t, zone))
	start, end := crossing(first, zone), crossing(periodNext(p, first), zone)
	// The clock at t reads first or later, so start is never after t. But a clock set back can show the
	// old period after the boundary was crossed: step until the interval holds t. Zones move by a day at most.
	for !t.Before(end) {
		first = periodNext(p, first)
		start, end = end, crossing(periodNext(p, first), zone)
	}
	return Window{Start: start.UTC(), End: end.UTC()}
}

// wallClock is what a clock on the wall in zone shows at t, written as if it were UTC.
func wallClock(t time.Time, zone *time.Location) time.Time {
	_, offset := t.In(zone).Zone()
	return t.UTC().Add(time.Duration(offset) * time.Second)
}

// periodStart is the first wall-clock instant of the period that holds wall. Weeks begin on Monday.
func periodStart(p Period, wall time.Time) time.Time {
	y, m, d := wall.Date()
	switch p {
	case Hourly:
		return wall.Truncate(time.Hour)
	case Weekly:
		d -= (int(wall.Weekday()) + 6) % 7
	case Monthly:
		d = 1
	case Quarterly:
		d, m = 1, m-(m-1)%3
	case Yearly:
		d, m = 1, time.January
	case Daily, Total, Custom, Rolling:
	}
	return time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
}

func periodNext(p Period, first time.Time) time.Time {
	switch p {
	case Hourly:
		return first.Add(time.Hour)
	case Weekly:
		return first.AddDate(0, 0, 7)
	case Monthly:
		return first.AddDate(0, 1, 0)
	case Quarterly:
		return first.AddDate(0, 3, 0)
	case Yearly:
		return first.AddDate(1, 0, 0)
	case Daily, Total, Custom, Rolling:
	}
	return first.AddDate(0, 0, 1)
}

// crossing is the earliest instant whose wall clock in zone reads wall or later.
func crossing(wall time.Time, zone *time.Location) time.Time {
	// No zone was ever 24 hours from UTC, so a day before is certainly too early.
	at := wall.Add(-24 * time.Hour)
	for {
		_, offset := at.In(zone).Zone()
		next := offsetEnds(at, zone)
		candidate := wall.Add(-time.Duration(offset) * time.Second)
		if candidate.Before(at) {
			candidate = at
		}
		if next.IsZero() || candidate.Before(next) {
			return candidate
		}
		at = next
	}
}

// offsetEnds is an instant after at up to which the zone's offset does not change; zero: for ever.
func offsetEnds(at time.Time, zone *time.Location) time.Time {
	_, end := at.In(zone).ZoneBounds()
	if end.IsZero() || end.After(at) {
		return end.UTC()
	}
	// Where a zone follows a rule (time.tzset, Go 1.26) every year ends after 365 days: on the last day of
	// a leap year the end lies in the past. No clock is set on that day, so it ends with it.
	return at.UTC().Truncate(24*time.Hour).AddDate(0, 0, 1)
}
