package domain

import (
	"encoding/json"
	"errors"
	"testing"
)

// FuzzThreshold: what is accepted is in parts per million and writes back as the same number.
func FuzzThreshold(f *testing.F) {
	for _, seed := range []string{"0", "1", "0.8", "0.800000", "10", "0.0000001", ".5", "5.", "-1", "+1", "1e1", "", "99999999999999999", "0.5.5", "١"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ParseThreshold(text)
		if err != nil {
			return
		}
		written, err := got.MarshalJSON()
		if err != nil || !json.Valid(written) {
			t.Fatalf("%q writes %q: %v", text, written, err)
		}
		if back, err := ParseThreshold(string(written)); err != nil || back != got {
			t.Errorf("%q: %d, then %q: %d, %v", text, got, written, back, err)
		}
	})
}

func TestThresholdsAreWrittenShortAndExact(t *testing.T) {
	t.Parallel()
	for ppm, want := range map[Threshold]string{0: "0", 1: "0.000001", 100_000: "0.1", 800_000: "0.8", 1_000_000: "1", 1_500_000: "1.5", 10_000_000: "10"} {
		if got, err := ppm.MarshalJSON(); err != nil || string(got) != want {
			t.Errorf("%d: %s, want %s (%v)", ppm, got, want, err)
		}
	}
}

func TestSharesThatAreNoneAreRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", ".", "-1", "+1", "1e1", "0.5.5", "0,5", "0.0000001", "99999999999999999", "18446744073709551616", "١"} {
		var kept Threshold
		if got, err := ParseThreshold(text); !errors.Is(err, ErrInvalid) || got != 0 || kept.UnmarshalJSON([]byte(text)) == nil {
			t.Errorf("%q: got %d, %v; want ErrInvalid", text, got, err)
		}
	}
}
