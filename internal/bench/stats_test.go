package main

import (
	"slices"
	"testing"
	"time"
)

func TestQuantileIsTheNearestRank(t *testing.T) {
	t.Parallel()
	var samples []time.Duration
	for i := 1000; i > 0; i-- {
		samples = append(samples, time.Duration(i))
	}
	if got, want := spread(samples), []time.Duration{500, 900, 990, 999}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := quantile([]time.Duration{7}, 1); got != 7 {
		t.Errorf("one sample: got %v, want 7", got)
	}
	if got := quantile(nil, 500); got != 0 {
		t.Errorf("no sample: got %v, want 0", got)
	}
}

func TestMedianIsAMeasuredValue(t *testing.T) {
	t.Parallel()
	for _, one := range []struct {
		values []float64
		want   float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 1}, 1}} {
		if got := median(one.values); got != one.want {
			t.Errorf("median of %v: got %v, want %v", one.values, got, one.want)
		}
	}
}

func TestAddedShowsNoiseToo(t *testing.T) {
	t.Parallel()
	got := added([]time.Duration{3 * time.Millisecond, time.Millisecond}, []time.Duration{time.Millisecond, 2 * time.Millisecond})
	if want := []string{"+2.00", "-1.00"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestBooksAgreeOnlyToTheNanoDollarAndTheRow(t *testing.T) {
	t.Parallel()
	for name, one := range map[string]struct {
		v    verdict
		want bool
	}{
		"equal":             {verdict{billed: 2, ledgered: 2, billedUSD: "0.1", ledgeredUSD: "0.100000000"}, true},
		"one nano-dollar":   {verdict{billed: 2, ledgered: 2, billedUSD: "0.1", ledgeredUSD: "0.100000001"}, false},
		"one row":           {verdict{billed: 2, ledgered: 1, billedUSD: "0.1", ledgeredUSD: "0.1"}, false},
		"nothing was asked": {verdict{}, false},
	} {
		if got := one.v.agrees(); got != one.want {
			t.Errorf("%s: got %v, want %v", name, got, one.want)
		}
	}
}

func TestTablesAlign(t *testing.T) {
	t.Parallel()
	var tab table
	tab.add("", "µs", "share")
	tab.add("direct", "1.00", "")
	tab.add("plain", "12.00", "7 %")
	want := "           µs  share\ndirect   1.00\nplain   12.00    7 %\n"
	if got := tab.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
