package domain_test

import (
	"errors"
	"testing"
	"time"

	. "github.com/budgetguard/budgetguard/domain"
)

func location(tb testing.TB, name string) *time.Location {
	tb.Helper()
	zone, err := ParseZone(name)
	if err != nil {
		tb.Fatal(err)
	}
	return zone.Location()
}

// at reads an instant, in RFC 3339 or short as "2026-11-22T10:30" in UTC.
func at(text string) time.Time {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04", time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC()
		}
	}
	panic("no time: " + text)
}

func TestWindowsOfOrdinaryPeriods(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		period         Period
		zone           string
		at, start, end string
	}{
		{Hourly, "UTC", "2026-11-22T10:30", "2026-11-22T10:00", "2026-11-22T11:00"},
		{Hourly, "Asia/Kathmandu", "2026-11-22T10:30", "2026-11-22T10:15", "2026-11-22T11:15"},
		{Daily, "UTC", "2026-11-22T00:00", "2026-11-22", "2026-11-23"},
		{Daily, "UTC", "2026-11-22T23:59:59.999999Z", "2026-11-22", "2026-11-23"},
		{Daily, "Europe/Berlin", "2026-11-22T23:30", "2026-11-22T23:00", "2026-11-23T23:00"},
		{Daily, "Pacific/Kiritimati", "2026-11-22T10:00", "2026-11-22T10:00", "2026-11-23T10:00"},
		{Weekly, "UTC", "2026-11-22T12:00", "2026-11-16", "2026-11-23"}, // a Sunday belongs to the week that began on Monday
		{Weekly, "UTC", "2026-11-23", "2026-11-23", "2026-11-30"},
		{Monthly, "UTC", "2024-02-29T12:00", "2024-02-01", "2024-03-01"},
		{Monthly, "America/New_York", "2026-12-01T04:59", "2026-11-01T04:00", "2026-12-01T05:00"},
		{Quarterly, "UTC", "2026-11-22", "2026-10-01", "2027-01-01"},
		{Quarterly, "UTC", "2026-03-31T23:59", "2026-01-01", "2026-04-01"},
		{Yearly, "Asia/Tokyo", "2026-12-31T15:00", "2026-12-31T15:00", "2027-12-31T15:00"},
		{Total, "Asia/Tokyo", "2026-11-22", "1970-01-01", "9999-01-01"},
	} {
		checkWindow(t, c.period, c.zone, c.at, c.start, c.end)
	}
}

func TestWindowsAcrossClockChanges(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rule           string
		period         Period
		zone           string
		at, start, end string
	}{
		{"a day of 23 hours", Daily, "Europe/Berlin", "2026-03-29T12:00", "2026-03-28T23:00", "2026-03-29T22:00"},
		{"a day of 25 hours", Daily, "Europe/Berlin", "2026-10-25T12:00", "2026-10-24T22:00", "2026-10-25T23:00"},
		{"an hour that does not exist is skipped", Hourly, "Europe/Berlin", "2026-03-29T01:30", "2026-03-29T01:00", "2026-03-29T02:00"},
		{"an hour that comes twice is one window", Hourly, "Europe/Berlin", "2026-10-25T01:30", "2026-10-25T00:00", "2026-10-25T02:00"},
		{"half an hour comes twice", Hourly, "Australia/Lord_Howe", "2026-04-04T15:10", "2026-04-04T14:00", "2026-04-04T15:30"},
		{"two hours come twice", Daily, "Antarctica/Troll", "2026-10-25T12:00", "2026-10-24T22:00", "2026-10-26T00:00"},
		{"midnight does not exist: the day begins at 1:00", Daily, "America/Santiago", "2026-09-06T04:00", "2026-09-06T04:00", "2026-09-07T03:00"},
		{"midnight comes twice: the day begins at the first", Daily, "America/Havana", "2026-11-01T05:30", "2026-11-01T04:00", "2026-11-02T05:00"},
		{"set back into yesterday after a minute", Daily, "America/St_Johns", "2010-11-07T03:00", "2010-11-07T02:30", "2010-11-08T03:30"},
		{"a day that never was", Daily, "Pacific/Apia", "2011-12-30T09:59:59Z", "2011-12-29T10:00", "2011-12-30T10:00"},
		{"the day after it", Daily, "Pacific/Apia", "2011-12-30T10:00", "2011-12-30T10:00", "2011-12-31T10:00"},
	} {
		t.Run(c.rule, func(t *testing.T) {
			t.Parallel()
			checkWindow(t, c.period, c.zone, c.at, c.start, c.end)
		})
	}
}

func checkWindow(t *testing.T, p Period, zone, when, start, end string) {
	t.Helper()
	got := WindowAt(p, at(when), location(t, zone))
	if want := (Window{Start: at(start), End: at(end)}); got != want {
		t.Errorf("%s window of %s in %s = %s..%s; want %s..%s", p, when, zone, got.Start, got.End, want.Start, want.End)
	}
}

func TestPeriodsAreKnownByName(t *testing.T) {
	t.Parallel()
	for _, p := range append(CalendarPeriods(), Custom, Rolling) {
		if got, err := ParsePeriod(string(p)); err != nil || got != p {
			t.Errorf("%s = %s, %v", p, got, err)
		}
	}
	for _, text := range []string{"", "Daily", "fortnightly", "customs"} {
		if _, err := ParsePeriod(text); !errors.Is(err, ErrPeriod) {
			t.Errorf("%q: got %v; want ErrPeriod", text, err)
		}
	}
}

// Zones whose clocks do what breaks calendars: midnights skipped and doubled, minutes past midnight,
// half hours, two hours, lost days, odd offsets, daylight saving that begins and ends at random.
func oddZones() []string {
	return []string{
		"UTC", "America/Santiago", "America/Havana", "Atlantic/Azores", "America/Asuncion", "America/Scoresbysund", "America/Sao_Paulo",
		"Asia/Amman", "Asia/Gaza", "Asia/Beirut", "Asia/Tehran", "Pacific/Apia", "Pacific/Fakaofo", "Australia/Lord_Howe", "Antarctica/Troll", "America/St_Johns",
		"Asia/Kathmandu", "Pacific/Kiritimati", "Pacific/Chatham", "Africa/Cairo", "Africa/Casablanca", "Europe/Dublin", "Europe/Berlin",
		"America/New_York", "America/Caracas", "Asia/Pyongyang", "Europe/Volgograd", "America/Godthab", "Antarctica/Casey",
	}
}

const firstYear, lastYear = 2005, 2035

// transitions are the instants at which the clocks of a zone are set.
func transitions(zone *time.Location) []time.Time {
	var found []time.Time
	end := time.Date(lastYear+1, time.January, 1, 0, 0, 0, 0, time.UTC)
	for t := time.Date(firstYear, time.January, 1, 0, 0, 0, 0, time.UTC); t.Before(end); {
		_, next := t.In(zone).ZoneBounds()
		if next.IsZero() || !next.Before(end) {
			break
		}
		if !next.After(t) { // the last day of a leap year, see offsetEnds
			next = t.Add(25 * time.Hour)
		}
		t = next.UTC()
		found = append(found, t)
	}
	return found
}

func TestWindowsTileTimeInEveryZone(t *testing.T) {
	t.Parallel()
	from, to := time.Date(firstYear, time.January, 1, 12, 0, 0, 0, time.UTC), time.Date(lastYear+1, time.January, 1, 0, 0, 0, 0, time.UTC)
	for _, name := range oddZones() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			zone := location(t, name)
			for _, p := range []Period{Daily, Weekly, Monthly, Quarterly, Yearly} {
				tiles(t, p, zone, from, to)
			}
			for _, change := range transitions(zone) { // between them hours are all alike
				tiles(t, Hourly, zone, change.Add(-30*time.Hour), change.Add(30*time.Hour))
			}
		})
	}
}

// tiles walks the windows from one instant to another: each begins where the one before ended, none is
// empty, and every instant inside belongs to the window that was found for it.
func tiles(t *testing.T, p Period, zone *time.Location, from, to time.Time) {
	t.Helper()
	previous := WindowAt(p, from, zone)
	if !previous.Contains(from) {
		t.Fatalf("%s: %s..%s does not contain %s", p, previous.Start, previous.End, from)
	}
	for instant := previous.End; instant.Before(to); instant = previous.End {
		w := WindowAt(p, instant, zone)
		if !w.Start.Equal(instant) || !w.Start.Before(w.End) || w.Start.Location() != time.UTC || w.End.Location() != time.UTC {
			t.Fatalf("%s: the window at %s is %s..%s", p, instant, w.Start, w.End)
		}
		inside := w.End.Add(-time.Microsecond)
		if got := WindowAt(p, inside, zone); got != w {
			t.Fatalf("%s: at %s the window is %s..%s, at its start %s..%s", p, inside, got.Start, got.End, w.Start, w.End)
		}
		previous = w
	}
}

// ordinal counts periods on the wall clock by ways of its own.
func ordinal(p Period, wall time.Time) int64 {
	y, m := int64(wall.Year()), int64(wall.Month()-1)
	switch p {
	case Hourly:
		return floorDiv(wall.Unix(), 3600)
	case Daily:
		return floorDiv(wall.Unix(), 86400)
	case Weekly:
		return floorDiv(wall.Unix()/86400+3, 7) // 1970-01-01 was a Thursday
	case Monthly:
		return y*12 + m
	case Quarterly:
		return y*4 + m/3
	case Yearly:
		return y
	case Total, Custom, Rolling:
	}
	panic("no such ordinal")
}

func floorDiv(a, b int64) int64 {
	if a < 0 {
		a -= b - 1
	}
	return a / b
}

// A boundary is the first minute at which the wall clock has reached a new period: a scan of the minutes
// around each setting of the clocks, and of the quarters of the days around it, finds the same ones.
func TestBoundariesAreTheFirstMinuteOfAPeriodByTheWallClock(t *testing.T) {
	t.Parallel()
	for _, name := range oddZones() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			zone := location(t, name)
			for _, change := range transitions(zone) {
				scan(t, zone, change)
			}
			for year := firstYear; year <= lastYear; year += 5 {
				scan(t, zone, time.Date(year, time.January, 1, 0, 0, 0, 0, time.UTC))
			}
		})
	}
}

func scan(t *testing.T, zone *time.Location, change time.Time) {
	t.Helper()
	const warmUp, near, day, quarter = 25 * time.Hour, 3 * time.Hour, 24 * time.Hour, 15 * time.Minute
	from, to := change.Add(-day-warmUp).Truncate(quarter), change.Add(day+near)
	periods := []Period{Daily, Weekly, Monthly, Quarterly, Yearly, Hourly}
	reached := make([]int64, len(periods))
	settled := from.Add(warmUp) // before it the scan cannot know what was reached earlier
	next := func(minute time.Time) time.Time {
		if minute.Sub(change).Abs() < near {
			return minute.Add(time.Minute)
		}
		return minute.Add(quarter).Truncate(quarter) // no clock here was ever off by less
	}
	for minute := from; minute.Before(to); minute = next(minute) {
		_, offset := minute.In(zone).Zone()
		wall := minute.Add(time.Duration(offset) * time.Second)
		if ordinal(Hourly, wall) <= reached[len(reached)-1] {
			continue // no new hour, so no new period of any other kind
		}
		for i, p := range periods {
			now := ordinal(p, wall)
			if now <= reached[i] {
				continue
			}
			if reached[i] = now; minute.Before(settled) {
				continue
			}
			after, before := WindowAt(p, minute, zone), WindowAt(p, minute.Add(-time.Microsecond), zone)
			if !after.Start.Equal(minute) || !before.End.Equal(minute) {
				t.Fatalf("%s: the clock reaches a new period at %s, but windows end at %s and begin at %s", p, minute, before.End, after.Start)
			}
		}
	}
}

// ruleZone is a zone of a rule alone, without a table of years: what the tables of time/tzdata end with.
func ruleZone(t *testing.T, rule string) *time.Location {
	t.Helper()
	header := append([]byte("TZif2"), make([]byte, 15)...)
	counts := []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 4} // one offset, four letters
	data := append(append(header, counts...), 0, 0, 0, 0, 0, 0, 'S', 'T', 'D', 0)
	data = append(append(append(data, header...), counts...), 0, 0, 0, 0, 0, 0, 'S', 'T', 'D', 0)
	zone, err := time.LoadLocationFromTZData("rule", append(data, "\n"+rule+"\n"...))
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

// On the last day of a leap year time.Time.ZoneBounds answers with an end in the past.
func TestWindowsOfARuleTileTheLastDayOfALeapYear(t *testing.T) {
	t.Parallel()
	for _, rule := range []string{"CET-1CEST,M3.5.0,M10.5.0/3", "NST3:30NDT,M3.2.0,M11.1.0", "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0", "<-04>4<-03>,M9.1.6/24,M4.1.6/24", "UTC0"} {
		zone := ruleZone(t, rule)
		for year := 2020; year <= 2040; year += 4 {
			newYear := time.Date(year+1, time.January, 1, 0, 0, 0, 0, time.UTC)
			for _, p := range []Period{Hourly, Daily, Weekly, Monthly, Quarterly, Yearly} {
				tiles(t, p, zone, newYear.Add(-72*time.Hour), newYear.Add(72*time.Hour))
			}
			scan(t, zone, newYear)
		}
	}
}

func TestWindowContainsItsStartAndNotItsEnd(t *testing.T) {
	t.Parallel()
	w := WindowAt(Daily, at("2026-11-22T12:00"), time.UTC)
	for instant, want := range map[time.Time]bool{
		w.Start: true, w.End: false, w.Start.Add(-time.Nanosecond): false, w.End.Add(-time.Nanosecond): true,
	} {
		if w.Contains(instant) != want {
			t.Errorf("Contains(%s) = %v", instant, !want)
		}
	}
}

func BenchmarkWindowAt(b *testing.B) {
	zone, instant := location(b, "Europe/Berlin"), at("2026-11-22T12:00")
	for b.Loop() {
		WindowAt(Monthly, instant, zone)
	}
}
