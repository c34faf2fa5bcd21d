package domain

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Amount is money in nano-dollars (10⁻⁹ USD). Arithmetic on it is checked; no float ever touches it.
// In JSON it is a plain decimal string of dollars such as "0.0015"; a JSON number is read exactly too.
type Amount int64

const (
	nanosPerUSD = 1_000_000_000
	usdPlaces   = 9

	// MaxAmount bounds one limit, one reservation and one charge: a billion dollars. Nine charges of
	// that size still fit an account's int64, so an overflow is an attack or a bug, and is an error.
	MaxAmount Amount = 1_000_000_000 * nanosPerUSD

	// maxAmountText bounds what ParseAmount looks at: sign, ten digits, point and nine places fit easily.
	maxAmountText = 40
)

// ErrAmount is the kind of every refusal to read or add up money.
var ErrAmount = errors.New("invalid amount")

// ParseAmount reads a plain decimal of dollars: optional minus, digits, at most nine places beside zeros
// at the end. Exponents, separators and more places are refused with ErrAmount, never rounded.
func ParseAmount(s string) (Amount, error) {
	if s == "" || len(s) > maxAmountText {
		return 0, fmt.Errorf("%w: want a decimal of dollars such as 12.5", ErrAmount)
	}
	digits, negative := strings.CutPrefix(s, "-")
	sign := ""
	if negative {
		sign = "-"
	}
	whole, fraction, point := strings.Cut(digits, ".")
	if !allDigits(whole) || (point && !allDigits(fraction)) {
		return 0, fmt.Errorf("%w: %q is not a plain decimal", ErrAmount, s)
	}
	fraction = strings.TrimRight(fraction, "0")
	if len(fraction) > usdPlaces {
		return 0, fmt.Errorf("%w: %q has more than %d places", ErrAmount, s, usdPlaces)
	}
	nanos, err := strconv.ParseInt(sign+whole+fraction+strings.Repeat("0", usdPlaces-len(fraction)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: %q is out of range", ErrAmount, s)
	}
	return Amount(nanos), nil
}

// ParseAmountNumber reads a JSON number of dollars, exactly: as ParseAmount, and also with an exponent
// (1e-05, 1e9), which some encoders write where others write places. Its work does not depend on how
// large the exponent is.
func ParseAmountNumber(s string) (Amount, error) {
	at := strings.IndexAny(s, "eE")
	if at < 0 || len(s) > maxAmountText {
		return ParseAmount(s)
	}
	digits, exponent := s[:at], strings.TrimPrefix(s[at+1:], "+")
	shift, err := strconv.Atoi(exponent)
	if err != nil {
		return 0, fmt.Errorf("%w: %q is not a number", ErrAmount, s)
	}
	digits, negative := strings.CutPrefix(digits, "-")
	whole, fraction, point := strings.Cut(digits, ".")
	if !allDigits(whole) || point && !allDigits(fraction) {
		return 0, fmt.Errorf("%w: %q is not a number", ErrAmount, s)
	}

	// All digits as a whole number, and how many of them stand behind the point.
	all := strings.TrimLeft(whole+fraction, "0")
	if all == "" {
		return 0, nil
	}
	places := len(fraction) - shift
	if places < -maxAmountText || places > 2*maxAmountText {
		return 0, fmt.Errorf("%w: %q is out of range, or has more than %d places", ErrAmount, s, usdPlaces)
	}
	all = strings.Repeat("0", max(places+1-len(all), 0)) + all + strings.Repeat("0", max(-places, 0))
	plain := all[:len(all)-max(places, 0)]
	if behind := strings.TrimRight(all[len(plain):], "0"); behind != "" {
		plain += "." + behind
	}
	if negative {
		plain = "-" + plain
	}
	return ParseAmount(plain)
}

func allDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// String is the shortest plain decimal of dollars that is exactly a.
func (a Amount) String() string {
	return string(a.appendTo(make([]byte, 0, maxAmountText)))
}

// MarshalJSON writes the decimal as a string, which no JSON reader can round.
func (a Amount) MarshalJSON() ([]byte, error) {
	b := append(make([]byte, 0, maxAmountText), '"')
	return append(a.appendTo(b), '"'), nil
}

// appendTo writes digit by digit into one buffer: every event has a dozen amounts.
func (a Amount) appendTo(b []byte) []byte {
	nanos := uint64(a) //nolint:gosec // two's complement on purpose: the negation below is right for MinInt64 too
	if a < 0 {
		b, nanos = append(b, '-'), -nanos
	}
	b = strconv.AppendUint(b, nanos/nanosPerUSD, 10)
	fraction := nanos % nanosPerUSD
	if fraction == 0 {
		return b
	}
	b = append(b, '.')
	for unit := uint64(nanosPerUSD / 10); fraction > 0; unit /= 10 {
		b = append(b, '0'+byte(fraction/unit)) //nolint:gosec // one digit
		fraction %= unit
	}
	return b
}

// UnmarshalJSON reads a decimal string or a JSON number, both exactly.
func (a *Amount) UnmarshalJSON(data []byte) error {
	text, parse := string(data), ParseAmountNumber
	if unquoted, ok := strings.CutPrefix(text, `"`); ok {
		text, parse = strings.TrimSuffix(unquoted, `"`), ParseAmount
	}
	parsed, err := parse(text)
	if err != nil {
		return err
	}
	*a = parsed
	return nil
}

// Plus is a+b, or ErrAmount where the sum leaves int64.
func (a Amount) Plus(b Amount) (Amount, error) {
	if (b > 0 && a > math.MaxInt64-b) || (b < 0 && a < math.MinInt64-b) {
		return 0, fmt.Errorf("%w: %s + %s overflows", ErrAmount, a, b)
	}
	return a + b, nil
}

// Minus is a-b, or ErrAmount where the difference leaves int64.
func (a Amount) Minus(b Amount) (Amount, error) {
	if (b < 0 && a > math.MaxInt64+b) || (b > 0 && a < math.MinInt64+b) {
		return 0, fmt.Errorf("%w: %s - %s overflows", ErrAmount, a, b)
	}
	return a - b, nil
}
