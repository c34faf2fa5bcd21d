package domain_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strings"
	"testing"

	"pgregory.net/rapid"

	. "github.com/budgetguard/budgetguard/domain"
)

// usd is an amount written as people write it.
func usd(text string) Amount {
	a, err := ParseAmount(text)
	if err != nil {
		panic(err)
	}
	return a
}

func ExampleAmount() {
	limit, _ := ParseAmount("10")
	spent, _ := ParseAmount("0.0015")
	left, _ := limit.Minus(spent)
	encoded, _ := json.Marshal(left)
	fmt.Println(left, string(encoded), int64(spent))
	// Output: 9.9985 "9.9985" 1500000
}

func TestAmountIsReadExactlyAndWrittenShortest(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text  string
		nanos int64
		short string
	}{
		{"0", 0, "0"},
		{"-0", 0, "0"},
		{"1", 1_000_000_000, "1"},
		{"007", 7_000_000_000, "7"},
		{"0.000000001", 1, "0.000000001"},
		{"-0.000000001", -1, "-0.000000001"},
		{"12.50", 12_500_000_000, "12.5"},
		{"0.100000000", 100_000_000, "0.1"},
		{"-1.25", -1_250_000_000, "-1.25"},
		{"1000000000", int64(MaxAmount), "1000000000"},
		{"9223372036.854775807", math.MaxInt64, "9223372036.854775807"},
		{"-9223372036.854775808", math.MinInt64, "-9223372036.854775808"},
	} {
		got, err := ParseAmount(c.text)
		if err != nil || int64(got) != c.nanos {
			t.Errorf("ParseAmount(%q) = %d, %v; want %d", c.text, got, err, c.nanos)
		}
		if got.String() != c.short {
			t.Errorf("ParseAmount(%q).String() = %q; want %q", c.text, got, c.short)
		}
	}
}

func TestAmountRefusesWhatItCannotReadExactly(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", " ", "-", "+1", "--1", ".", ".5", "5.", "1.", "-.5", "1e3", "1E-9", "0x10", "1_000", "1,000", "1 ", " 1", "١", "NaN", "Inf", "$1",
		"0.0000000001", "1.0000000001", "9223372036.854775808", "-9223372036.854775809", "10000000000",
		strings.Repeat("0", 41), "1.2.3", "1-", "null", "true",
	} {
		if got, err := ParseAmount(text); !errors.Is(err, ErrAmount) {
			t.Errorf("ParseAmount(%q) = %s, %v; want ErrAmount", text, got, err)
		}
	}
}

func TestAmountIsReadFromJSONStringsAndNumbers(t *testing.T) {
	t.Parallel()
	for _, text := range []string{`"0.0015"`, `0.0015`, `"0.001500"`, `0.00150`} {
		var got Amount
		if err := json.Unmarshal([]byte(text), &got); err != nil || got != 1_500_000 {
			t.Errorf("%s = %d, %v; want 1500000", text, got, err)
		}
	}
	for _, text := range []string{`1e`, `1e1.5`, `e5`, `1e999999999`, `1e-999999999`, `1e-10`, `1e99999999999999999999`, `null`, `true`, `""`, `"1e3"`, `{}`, `[1]`, `"1`, `"\u0031"`, `1.0000000001`} {
		got := Amount(7)
		if err := json.Unmarshal([]byte(text), &got); err == nil || got != 7 {
			t.Errorf("%s = %d, %v; want an error and no change", text, got, err)
		}
	}
}

func TestAmountSumsAreCheckedAgainstBigIntegers(t *testing.T) {
	t.Parallel()
	edge := rapid.SampledFrom([]int64{math.MinInt64, math.MinInt64 + 1, -1, 0, 1, math.MaxInt64 - 1, math.MaxInt64, int64(MaxAmount)})
	number := rapid.OneOf(edge, rapid.Int64())
	rapid.Check(t, func(t *rapid.T) {
		a, b := number.Draw(t, "a"), number.Draw(t, "b")
		sum, err := Amount(a).Plus(Amount(b))
		agrees(t, "sum", new(big.Int).Add(big.NewInt(a), big.NewInt(b)), sum, err)
		difference, err := Amount(a).Minus(Amount(b))
		agrees(t, "difference", new(big.Int).Sub(big.NewInt(a), big.NewInt(b)), difference, err)
	})
}

// agrees tells that a checked result is the exact one, or refused because that is outside int64.
func agrees(t interface {
	Fatalf(format string, args ...any)
}, what string, exact *big.Int, got Amount, err error,
) {
	if exact.IsInt64() {
		if err != nil || int64(got) != exact.Int64() {
			t.Fatalf("%s = %d, %v; want %s", what, got, err, exact)
		}
		return
	}
	if !errors.Is(err, ErrAmount) {
		t.Fatalf("%s %s leaves int64 but gave %d, %v", what, exact, got, err)
	}
}

func TestJSONNumbersAreReadExactlyInEverySpelling(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Amount{
		"1e-05": 10_000, "1E-5": 10_000, "1e9": MaxAmount, "1e+2": 100 * 1_000_000_000, "0e99": 0, "-0e5": 0, "0.0e-77": 0,
		"1.5e1": 15_000_000_000, "-2.5e-3": -2_500_000, "123456789e-9": 123_456_789, "0.009400000000": 9_400_000,
		"10e-10": 1, "0.00001e5": 1_000_000_000,
	} {
		if got, err := ParseAmountNumber(text); err != nil || got != want {
			t.Errorf("%s is %d, %v; want %d", text, got, err, want)
		}
	}
	// In a string zeros at the end are no places; an exponent is no plain decimal.
	if got, err := ParseAmount("0.009400000000"); err != nil || got != 9_400_000 {
		t.Errorf("%d, %v", got, err)
	}
	if _, err := ParseAmount("1e9"); !errors.Is(err, ErrAmount) {
		t.Errorf("got %v", err)
	}
}

func TestAnAmountWithAnExponentIsThatOfItsPlainForm(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a := Amount(rapid.Int64().Draw(t, "nanos"))
		if got, err := ParseAmountNumber(fmt.Sprintf("%de-9", int64(a))); err != nil || got != a {
			t.Fatalf("%d is read as %d, %v", a, got, err)
		}
	})
}

func FuzzAmount(f *testing.F) {
	for _, seed := range []string{"0", "-0", "12.5", "0.000000001", "9223372036.854775807", "-9223372036.854775808", "1e9", "", "-", `"1"`, "\xff"} {
		f.Add(seed, int64(len(seed)))
	}
	f.Add("1", int64(math.MinInt64))
	f.Fuzz(func(t *testing.T, text string, nanos int64) {
		x := Amount(nanos)
		if back, err := ParseAmount(x.String()); err != nil || back != x {
			t.Fatalf("ParseAmount(%q) = %d, %v; want %d", x, back, err, nanos)
		}
		for _, encoded := range []string{x.String(), `"` + x.String() + `"`} {
			var back Amount
			if err := json.Unmarshal([]byte(encoded), &back); err != nil || back != x {
				t.Fatalf("JSON %s = %d, %v; want %d", encoded, back, err, nanos)
			}
		}
		parsed, err := ParseAmount(text)
		if err != nil {
			return
		}
		exact, ok := new(big.Rat).SetString(text)
		if !ok || exact.Cmp(big.NewRat(int64(parsed), 1_000_000_000)) != 0 {
			t.Fatalf("ParseAmount(%q) = %s: not exact", text, parsed)
		}
	})
}
