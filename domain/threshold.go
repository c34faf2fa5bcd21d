package domain

import (
	"fmt"
	"strconv"
	"strings"
)

const (
	thresholdPlaces = 6
	wholeThreshold  = 1_000_000
	// maxThresholdText is more than any share needs: two digits, a point and six places.
	maxThresholdText = 16
)

// ParseThreshold reads a plain decimal of at most six places, such as 0.8. Signs and exponents are
// ErrInvalid; so is a share above what fits, and which shares make sense is for Decide to say.
func ParseThreshold(text string) (Threshold, error) {
	whole, fraction, _ := strings.Cut(text, ".")
	if len(text) > maxThresholdText || len(fraction) > thresholdPlaces {
		return 0, invalidShare()
	}
	ppm, err := strconv.ParseUint(whole+fraction+strings.Repeat("0", thresholdPlaces-len(fraction)), 10, 63)
	if err != nil {
		return 0, invalidShare()
	}
	return Threshold(ppm), nil
}

func invalidShare() error {
	return invalid("want shares of the limit such as 0.8, with at most %d places", thresholdPlaces)
}

// MarshalJSON writes the shortest decimal, digit by digit, so that 0.1 stays 0.1.
func (t Threshold) MarshalJSON() ([]byte, error) {
	text := fmt.Sprintf("%d.%06d", int64(t)/wholeThreshold, int64(t)%wholeThreshold)
	return []byte(strings.TrimSuffix(strings.TrimRight(text, "0"), ".")), nil
}

// UnmarshalJSON reads a JSON number exactly. See ParseThreshold.
func (t *Threshold) UnmarshalJSON(data []byte) error {
	parsed, err := ParseThreshold(string(data))
	if err != nil {
		return err
	}
	*t = parsed
	return nil
}
