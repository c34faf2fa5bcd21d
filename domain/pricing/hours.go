package pricing

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// offPeak are cheaper prices outside some hours of the day, in UTC.
type offPeak struct {
	peaks []hours
	rates Rates
}

// hours are a half-open span of the day, from its midnight in UTC.
type hours struct{ from, to time.Duration }

// touchesPeak reports whether any instant of a call lies within a peak.
func (o *offPeak) touchesPeak(began, ended time.Time) bool {
	const day = 24 * time.Hour
	if ended.Sub(began) >= day {
		return true
	}
	from := began.UTC().Sub(began.UTC().Truncate(day))
	to := from + max(ended.Sub(began), 0)
	for _, p := range o.peaks {
		// A call that runs past midnight meets the peaks of the next day, too.
		if from < p.to && to >= p.from || to >= day+p.from {
			return true
		}
	}
	return false
}

// parseHours reads "01:00-04:00".
func parseHours(s string) (hours, error) {
	from, to, ok := strings.Cut(s, "-")
	if !ok {
		return hours{}, fmt.Errorf("hours %q: want a span such as 01:00-04:00", s)
	}
	var h hours
	for _, end := range []struct {
		text string
		into *time.Duration
	}{{from, &h.from}, {to, &h.to}} {
		t, err := time.Parse("15:04", end.text)
		if err != nil {
			return hours{}, fmt.Errorf("hours %q: want a span such as 01:00-04:00", s)
		}
		*end.into = time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute
	}
	if h.from >= h.to {
		return hours{}, errors.New("hours end before they begin; cut them at midnight")
	}
	return h, nil
}
