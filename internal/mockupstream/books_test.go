package mockupstream

import (
	"math"
	"strconv"
	"testing"
	"time"
)

func TestBooksFoldTheOldestAndSayWhenASpanCutsThem(t *testing.T) {
	t.Parallel()
	const page, pages, entries = 4, 3, 21
	at := func(i int) time.Time { return time.Unix(int64(i), 0) }
	b := newBooks(page, pages)
	for i := range entries {
		b.enter(at(i), "key", 0, 1)
	}
	models := []*model{{id: "m"}}
	cases := map[string]struct {
		since, until time.Time
		requests     int64
		inexact      bool
	}{
		"everything":          {time.Time{}, time.Time{}, entries, false},
		"from the beginning":  {at(0), time.Time{}, entries, false},
		"among the folded":    {at(3), time.Time{}, entries, true},
		"until among them":    {time.Time{}, at(5), 12, true},
		"only the remembered": {at(12), time.Time{}, entries - 12, false},
		"after all":           {at(entries), time.Time{}, 0, false},
		"a remembered span":   {at(13), at(15), 2, false},
	}
	for name, c := range cases {
		got := b.view().bill(models, c.since, c.until)
		if got.Requests != c.requests || got.Inexact != c.inexact || got.TotalNano != c.requests {
			t.Errorf("%s: got %+v, want %d requests, inexact %t", name, got, c.requests, c.inexact)
		}
	}
	if len(b.pages) > pages {
		t.Errorf("pages: got %d, want at most %d", len(b.pages), pages)
	}
}

func TestBooksBoundTheKeysTheyTellApart(t *testing.T) {
	t.Parallel()
	b := newBooks(pageRecords, maxPages)
	for i := range maxKeys + 5 {
		b.enter(time.Unix(1, 0), strconv.Itoa(i), 0, 1)
	}
	bill := b.view().bill([]*model{{id: "m"}}, time.Time{}, time.Time{})
	if len(bill.ByKey) != maxKeys+1 || bill.ByKey[otherKeys].Requests != 5 {
		t.Errorf("got %d keys, %d requests under %q", len(bill.ByKey), bill.ByKey[otherKeys].Requests, otherKeys)
	}
}

func TestTotalsBeyondInt64StayExactAsDecimals(t *testing.T) {
	t.Parallel()
	var sum total
	sum.add(math.MaxInt64)
	sum.add(math.MaxInt64)
	line := sum.line()
	if line.TotalUsd != "18446744073.709551614" || line.TotalNano != math.MaxInt64 {
		t.Errorf("got %+v", line)
	}
	if got := ceilNano(rates{math.MaxInt64, 0}, math.MaxInt64, 0); got != math.MaxInt64 {
		t.Errorf("a product beyond int64: got %d, want it saturated", got)
	}
}
