package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/budgetguard/budgetguard/domain"
)

const (
	ppmPlaces = 6
	wholePPM  = 1_000_000
	// maxShareText is more than any share needs: two digits, a point and six places.
	maxShareText = 16
)

// errShare says what a share of a limit looks like.
var errShare = errors.New("want shares of the limit such as 0.8, with at most 6 places")

// share is a threshold on the wire: a JSON number such as 0.8 for 800000 parts per million. It is read
// and written digit by digit, so that 0.1 stays 0.1.
type share domain.Threshold

// MarshalJSON writes the shortest decimal.
func (s share) MarshalJSON() ([]byte, error) {
	text := fmt.Sprintf("%d.%06d", int64(s)/wholePPM, int64(s)%wholePPM)
	return []byte(strings.TrimSuffix(strings.TrimRight(text, "0"), ".")), nil
}

// parseShare reads a plain decimal of at most six places. Signs and exponents are errShare.
func parseShare(text string) (domain.Threshold, error) {
	whole, fraction, _ := strings.Cut(text, ".")
	if len(text) > maxShareText || len(fraction) > ppmPlaces {
		return 0, errShare
	}
	ppm, err := strconv.ParseUint(whole+fraction+strings.Repeat("0", ppmPlaces-len(fraction)), 10, 63)
	if err != nil {
		return 0, errShare
	}
	return domain.Threshold(ppm), nil
}

// shares reads an array of thresholds. What range they may have is the domain's to say.
func (f fields) shares(name string) []domain.Threshold {
	list, ok := f.list(name)
	if !ok {
		return nil
	}
	thresholds := make([]domain.Threshold, 0, len(list))
	for _, element := range list {
		number, _ := element.(json.Number)
		threshold, err := parseShare(number.String())
		if err != nil {
			f.refuse(name, "%s", err)
			return nil
		}
		thresholds = append(thresholds, threshold)
	}
	return thresholds
}

func sharesOf(thresholds []domain.Threshold) []share {
	shares := make([]share, 0, len(thresholds))
	for _, t := range thresholds {
		shares = append(shares, share(t))
	}
	return shares
}
