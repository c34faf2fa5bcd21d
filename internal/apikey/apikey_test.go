package apikey_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/budgetguard/budgetguard/internal/apikey"
)

func newKey(t *testing.T) apikey.Key {
	t.Helper()
	key, err := apikey.New(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestNewKeyHasTheDocumentedShape(t *testing.T) {
	t.Parallel()
	shape := regexp.MustCompile(`^bgk_[0-9A-Za-z]{49}$`)
	seen := map[string]bool{}
	for range 200 {
		key := newKey(t)
		if !shape.MatchString(key.Secret()) || seen[key.Secret()] {
			t.Fatalf("bad or repeated key %q", key.Secret())
		}
		seen[key.Secret()] = true
		if back, ok := apikey.Parse(key.Secret()); !ok || back != key {
			t.Fatalf("own key %q does not parse", key.Secret())
		}
	}
}

func TestNewKeyIsAFixedFunctionOfItsRandomBytes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		fill byte
		want string
	}{
		{0x00, "bgk_00000000000000000000000000000000000000000002CZclj"},
		{0xff, "bgk_yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp13sRzl1"},
	} {
		key, err := apikey.New(bytes.NewReader(bytes.Repeat([]byte{c.fill}, 32)))
		if err != nil {
			t.Fatal(err)
		}
		if key.Secret() != c.want { // computed apart, in Python
			t.Errorf("key %q, want %q", key.Secret(), c.want)
		}
	}
}

func TestEverySingleTypingErrorIsRejected(t *testing.T) {
	t.Parallel()
	secret := newKey(t).Secret()
	for i := range secret {
		for _, c := range []byte("0Az_-é ") {
			wrong := secret[:i] + string(c) + secret[i+1:]
			if _, ok := apikey.Parse(wrong); ok && wrong != secret {
				t.Errorf("%q parses with a wrong character at %d", wrong, i)
			}
		}
	}
	for _, wrong := range []string{"", "bgk_", secret[:52], secret + "a", strings.ToUpper(secret), " " + secret, strings.Repeat("b", 1<<20)} {
		if _, ok := apikey.Parse(wrong); ok {
			t.Errorf("%.60q parses", wrong)
		}
	}
}

func TestTwoSwappedCharactersAreRejected(t *testing.T) {
	t.Parallel()
	secret := newKey(t).Secret()
	for i := 4; i+1 < len(secret); i++ {
		swapped := []byte(secret)
		swapped[i], swapped[i+1] = swapped[i+1], swapped[i]
		if _, ok := apikey.Parse(string(swapped)); ok && string(swapped) != secret {
			t.Errorf("swap at %d is not noticed", i)
		}
	}
}

func TestNoFormatPrintsTheSecret(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).InfoContext(t.Context(), "issued", slog.Any("key", key))
	printed := fmt.Sprintf("%v %+v %#v %s %q %s", key, key, key, key, key, log.String())
	if strings.Contains(printed, key.Secret()[13:]) {
		t.Errorf("the secret shows in %s", printed)
	}
	if !strings.Contains(printed, key.Prefix()) || len(key.Prefix()) != 12 {
		t.Errorf("prefix %q does not show in %s", key.Prefix(), printed)
	}
	if got := (apikey.Key{}).Prefix(); got != "" {
		t.Errorf("zero key has prefix %q", got)
	}
}

func TestHashSaysHowItWasMade(t *testing.T) {
	t.Parallel()
	// printf bgk_x | sha256sum; printf bgk_x | openssl dgst -sha256 -hmac pepper
	plain, peppered := apikey.Hash(nil, "bgk_x"), apikey.Hash([]byte("pepper"), "bgk_x")
	if want := "s0:" + "080b491a46a87ae6e09f32ed08db77279220e8dccc537a4a85d3df08d33aae39"; plain != want {
		t.Errorf("without pepper: %s, want %s", plain, want)
	}
	if want := "h1:" + "2729af1c5801b378ce6e0799f7460a603eb9ff4985fef3df53f1e788fb8d8e7a"; peppered != want {
		t.Errorf("with pepper: %s, want %s", peppered, want)
	}
	if apikey.Hash([]byte("other"), "bgk_x") == peppered {
		t.Error("another pepper gives the same hash")
	}
	if !apikey.Equal(plain, plain) || apikey.Equal(plain, peppered) || apikey.Equal(plain, "") {
		t.Error("Equal is wrong")
	}
}

func TestIDsNameTheirKind(t *testing.T) {
	t.Parallel()
	shape := regexp.MustCompile(`^(key|bud)_[a-z2-7]{16}$`)
	key, err := apikey.NewKeyID(rand.Reader)
	if err != nil || !shape.MatchString(string(key)) {
		t.Errorf("key id %q: %v", key, err)
	}
	budget, err := apikey.NewBudgetID(rand.Reader)
	if err != nil || !shape.MatchString(string(budget)) {
		t.Errorf("budget id %q: %v", budget, err)
	}
}

func TestABrokenSourceOfRandomnessIsAnError(t *testing.T) {
	t.Parallel()
	broken := errors.New("no entropy")
	if _, err := apikey.New(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("New: %v", err)
	}
	if _, err := apikey.NewKeyID(bytes.NewReader([]byte("short"))); err == nil {
		t.Error("NewKeyID took five bytes")
	}
	if _, err := apikey.NewBudgetID(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("NewBudgetID: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	key, err := apikey.New(rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{"", "bgk_", key.Secret(), key.Secret()[:52] + "\x00", strings.Repeat("bgk_", 14), "Bearer " + key.Secret()} {
		f.Add(seed)
	}
	shape := regexp.MustCompile(`^bgk_[0-9A-Za-z]{49}$`)
	f.Fuzz(func(t *testing.T, s string) {
		key, ok := apikey.Parse(s)
		if ok != (key != apikey.Key{}) || (ok && (key.Secret() != s || !shape.MatchString(s))) {
			t.Errorf("Parse(%q) = %v, %v", s, key, ok)
		}
		if len(key.Prefix()) > 12 {
			t.Errorf("prefix %q", key.Prefix())
		}
	})
}

func ExampleParse() {
	_, ok := apikey.Parse("bgk_a-typing-error")
	fmt.Println(ok)
	// Output: false
}
