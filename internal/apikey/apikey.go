package apikey

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"math/big"
	"strings"

	"github.com/budgetguard/budgetguard/domain"
)

const (
	// Scheme begins every key, so that people, proxies and secret scanners know one when they see it.
	Scheme = "bgk_"

	// alphabet is base62 in GitHub's order.
	alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

	randomBytes  = 32 // 256 bits: nobody guesses one, with or without the stored hash
	bodyChars    = 43 // the least width that holds 256 bits in base62
	sumChars     = 6  // the least width that holds 32 bits
	keyChars     = len(Scheme) + bodyChars + sumChars
	prefixChars  = 12 // what people see: 8 random characters tell a tenant's keys apart and leave 208 bits secret
	idBytes      = 10 // 80 bits are 16 characters of base32, and no two ids of a tenant meet
	hashPepper   = "h1:"
	hashUnkeyed  = "s0:"
	redactedTail = "…"
)

// Key is a secret as a tenant presents it. It prints as its prefix, whatever prints it; only Secret
// gives the whole.
type Key struct{ secret string }

// New makes a key from 32 bytes of random, which must be a cryptographic source.
func New(random io.Reader) (Key, error) {
	var raw [randomBytes]byte
	if _, err := io.ReadFull(random, raw[:]); err != nil {
		return Key{}, fmt.Errorf("make api key: %w", err)
	}
	body := base62(new(big.Int).SetBytes(raw[:]), bodyChars)
	return Key{secret: Scheme + body + checksum(body)}, nil
}

// Parse tells whether s has the shape and the checksum of a key. That says nothing about whether anybody
// issued it. It looks at no more than the length of a string that is too long.
func Parse(s string) (Key, bool) {
	if len(s) != keyChars || !strings.HasPrefix(s, Scheme) {
		return Key{}, false
	}
	for i := len(Scheme); i < len(s); i++ {
		if strings.IndexByte(alphabet, s[i]) < 0 {
			return Key{}, false
		}
	}
	body := s[len(Scheme) : len(Scheme)+bodyChars]
	if subtle.ConstantTimeCompare([]byte(checksum(body)), []byte(s[len(Scheme)+bodyChars:])) != 1 {
		return Key{}, false
	}
	return Key{secret: s}, true
}

// Secret is the whole key, for the one answer that shows it and for Hash.
func (k Key) Secret() string { return k.secret }

// Prefix is the part of the key that lists and logs may show. It is empty for the zero Key.
func (k Key) Prefix() string { return k.secret[:min(prefixChars, len(k.secret))] }

// String is the prefix with an ellipsis, so that no format verb can print the secret.
func (k Key) String() string { return k.Prefix() + redactedTail }

// GoString does for %#v what String does for the other verbs.
func (k Key) GoString() string { return "apikey.Key(" + k.String() + ")" }

// LogValue does for slog what String does for fmt.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// Hash is what is stored of a secret: "h1:" and the HMAC-SHA256 under the pepper, or, without a pepper,
// "s0:" and the SHA-256, in hex. The version in front says how a stored hash was made, so a pepper can
// be introduced later and the keys issued before still found under their own.
func Hash(pepper []byte, secret string) string {
	if len(pepper) == 0 {
		sum := sha256.Sum256([]byte(secret))
		return hashUnkeyed + hex.EncodeToString(sum[:])
	}
	mac := hmac.New(sha256.New, pepper)
	mac.Write([]byte(secret))
	return hashPepper + hex.EncodeToString(mac.Sum(nil))
}

// Equal compares two hashes in a time that does not tell where they differ.
func Equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// NewKeyID makes the public name of a key: key_ and 16 characters.
func NewKeyID(random io.Reader) (domain.KeyID, error) {
	id, err := newID("key_", random)
	return domain.KeyID(id), err
}

// NewBudgetID makes the name of a budget: bud_ and 16 characters.
func NewBudgetID(random io.Reader) (domain.BudgetID, error) {
	id, err := newID("bud_", random)
	return domain.BudgetID(id), err
}

func newID(scheme string, random io.Reader) (string, error) {
	var raw [idBytes]byte
	if _, err := io.ReadFull(random, raw[:]); err != nil {
		return "", fmt.Errorf("make %s id: %w", scheme, err)
	}
	return scheme + strings.ToLower(base32.StdEncoding.EncodeToString(raw[:])), nil
}

func checksum(body string) string {
	return base62(big.NewInt(int64(crc32.ChecksumIEEE([]byte(body)))), sumChars)
}

// base62 writes n with leading zeros. n is used up.
func base62(n *big.Int, width int) string {
	text := make([]byte, width)
	base, digit := big.NewInt(int64(len(alphabet))), new(big.Int)
	for i := width - 1; i >= 0; i-- {
		n.DivMod(n, base, digit)
		text[i] = alphabet[digit.Int64()]
	}
	return string(text)
}
