package domain

import (
	"errors"
	"fmt"
	"time"
)

// Period is the length of a budget's windows.
type Period string

// The periods a budget can have. Custom is one window between two dates, Rolling the time just passed.
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

// ErrPeriod says that a period is unknown.
var ErrPeriod = errors.New("unknown period")

// CalendarPeriods lists the periods whose windows follow the calendar, shortest first.
func CalendarPeriods() []Period {
	return []Period{Hourly, Daily, Weekly, Monthly, Quarterly, Yearly, Total}
}

// ParsePeriod accepts the name of a period; anything else is ErrPeriod.
func ParsePeriod(s string) (Period, error) {
	switch p := Period(s); p {
	case Hourly, Daily, Weekly, Monthly, Quarterly, Yearly, Total, Custom, Rolling:
		return p, nil
	}
	return "", fmt.Errorf("%w: %.20q; want one of hourly, daily, weekly, monthly, quarterly, yearly, total, custom, rolling", ErrPeriod, s)
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

// WindowAt is the window of a calendar period that contains t in the given zone, with weeks that begin on
// Monday and months on their first day. Custom and Rolling have no calendar: see Budget.WindowAt.
func WindowAt(p Period, t time.Time, zone *time.Location) Window {
	return calendar{period: p, anchor: 1, weekStart: time.Monday}.at(t, zone)
}

// calendar is how a period cuts time.
type calendar struct {
	period    Period
	weekStart time.Weekday
	anchor    int // day of the month that a monthly window begins on
}

// at is the window that contains t.
//
// A boundary is the earliest instant at which the local wall clock reads the period's first minute or
// later. That holds for midnights that do not exist (Santiago), come twice (Amman) and days that were
// never there (Apia, 2011-12-30, of length zero and skipped), where time.Date answers another day.
// Windows of one zone tile time: each ends where the next begins.
func (c calendar) at(t time.Time, zone *time.Location) Window {
	if c.period == Total {
		return totalWindow()
	}
	first := c.start(wallClock(t, zone))
	start, end := crossing(first, zone), crossing(c.next(first), zone)
	// The clock at t reads first or later, so start is never after t. But a clock set back can show the
	// old period after the boundary was crossed: step until the interval holds t. Zones move by a day at most.
	for !t.Before(end) {
		first = c.next(first)
		start, end = end, crossing(c.next(first), zone)
	}
	return Window{Start: start.UTC(), End: end.UTC()}
}

// wallClock is what a clock on the wall in zone shows at t, written as if it were UTC.
func wallClock(t time.Time, zone *time.Location) time.Time {
	_, offset := t.In(zone).Zone()
	return t.UTC().Add(time.Duration(offset) * time.Second)
}

// start is the first wall-clock instant of the period that holds wall.
func (c calendar) start(wall time.Time) time.Time {
	y, m, d := wall.Date()
	switch c.period {
	case Hourly:
		return wall.Truncate(time.Hour)
	case Weekly:
		d -= (int(wall.Weekday()) - int(c.weekStart) + 7) % 7
	case Monthly:
		if d < c.anchorIn(y, m) {
			m--
		}
		return c.month(y, m)
	case Quarterly:
		d, m = 1, m-(m-1)%3
	case Yearly:
		d, m = 1, time.January
	case Daily, Total, Custom, Rolling:
	}
	return time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
}

// next is the first wall-clock instant of the period after the one that begins at first.
func (c calendar) next(first time.Time) time.Time {
	switch c.period {
	case Hourly:
		return first.Add(time.Hour)
	case Weekly:
		return first.AddDate(0, 0, 7)
	case Monthly:
		return c.month(first.Year(), first.Month()+1)
	case Quarterly:
		return first.AddDate(0, 3, 0)
	case Yearly:
		return first.AddDate(1, 0, 0)
	case Daily, Total, Custom, Rolling:
	}
	return first.AddDate(0, 0, 1)
}

// month is where the window of a month begins: on the anchor day, or the last day of a shorter month.
func (c calendar) month(y int, m time.Month) time.Time {
	return time.Date(y, m, c.anchorIn(y, m), 0, 0, 0, 0, time.UTC)
}

func (c calendar) anchorIn(y int, m time.Month) int {
	lastDay := time.Date(y, m+1, 0, 0, 0, 0, 0, time.UTC).Day()
	return min(c.anchor, lastDay)
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
