package mockupstream

import (
	"crypto/sha256"
	"encoding/hex"
	"math"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// pageRecords keeps a page at 1.5 MiB: large enough to be rare, small enough to fold within milliseconds.
	pageRecords = 1 << 16
	// maxPages bounds the exact memory to five million requests (120 MB); older ones are folded into sums.
	maxPages = 76
	// maxKeys bounds the keys told apart; a test or demo has a few, only an attack has more.
	maxKeys = 10_000
	// otherKeys collects the requests of all keys beyond maxKeys.
	otherKeys = "other"
	// nanoPerUSD is the resolution of the bill.
	nanoPerUSD = 1_000_000_000
	// keyIDBytes of SHA-256 tell keys apart and give none away.
	keyIDBytes = 8
)

// Line is one sum of a [Bill].
type Line struct {
	Requests int64  `json:"requests"`
	TotalUsd string `json:"totalUsd"` // exact decimal
	// TotalNano is the same in nano-dollars, for tests that compute with it; it saturates at the end of int64.
	TotalNano int64 `json:"-"`
}

// Bill is what the provider would invoice for a span of time.
type Bill struct {
	Line
	// ByModel has a line for each catalogue id, under which its aliases count too.
	ByModel map[string]Line `json:"byModel"`
	// ByKey has a line for each upstream key, under its [KeyID].
	ByKey map[string]Line `json:"byKey"`
	// Inexact is set when the span begins or ends among requests so old that only their sum is kept (beyond the
	// newest five million): that sum is then counted in full.
	Inexact bool `json:"inexact,omitempty"`
}

// KeyID is the name under which [Bill.ByKey] shows an upstream key: the first 16 hex digits of its SHA-256.
func KeyID(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:keyIDBytes])
}

// record is one billed request. It is small because there can be millions.
type record struct {
	at    int64 // Unix nanoseconds
	nano  int64
	model int32
	key   int32
}

// total sums amounts without overflow: whole dollars and nano-dollars apart, carried when shown.
type total struct{ requests, usd, nano int64 }

func (t *total) add(nano int64) {
	t.requests++
	t.usd += nano / nanoPerUSD
	t.nano += nano % nanoPerUSD
}

func (t *total) join(o total) {
	t.requests += o.requests
	t.usd += o.usd
	t.nano += o.nano
}

func (t total) line() Line {
	sum := new(big.Int).Mul(big.NewInt(t.usd), big.NewInt(nanoPerUSD))
	sum.Add(sum, big.NewInt(t.nano))
	nano := int64(math.MaxInt64)
	if sum.IsInt64() {
		nano = sum.Int64()
	}
	return Line{Requests: t.requests, TotalUsd: decimal(sum), TotalNano: nano}
}

// decimal writes nano-dollars as a plain decimal of dollars.
func decimal(nano *big.Int) string {
	const places = 9
	digits := nano.String()
	if missing := places + 1 - len(digits); missing > 0 {
		digits = strings.Repeat("0", missing) + digits
	}
	point := len(digits) - places
	return strings.TrimSuffix(strings.TrimRight(digits[:point]+"."+digits[point:], "0"), ".")
}

// pair is what folded requests are still told apart by.
type pair struct{ model, key int32 }

// books keep the records. Pages only grow and a full page never changes, so a reader needs the lock only to copy
// the page headers. All methods are safe for concurrent use.
type books struct {
	pageRecords, maxPages int

	mu        sync.Mutex
	pages     [][]record
	keys      []string // by index: KeyID
	keyIndex  map[string]int32
	nextKey   int32
	folded    map[pair]total
	firstFold int64 // span of the folded requests, Unix nanoseconds
	lastFold  int64
}

func newBooks(pageRecords, maxPages int) *books {
	return &books{
		pageRecords: pageRecords,
		maxPages:    maxPages,
		keyIndex:    make(map[string]int32),
		folded:      make(map[pair]total),
	}
}

// enter adds one billed request.
func (b *books) enter(at time.Time, keyID string, model int32, nano int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	last := len(b.pages) - 1
	if last < 0 || len(b.pages[last]) == b.pageRecords {
		b.makeRoom()
		b.pages = append(b.pages, make([]record, 0, b.pageRecords))
		last = len(b.pages) - 1
	}
	b.pages[last] = append(b.pages[last], record{at.UnixNano(), nano, model, b.index(keyID)})
}

func (b *books) index(keyID string) int32 {
	if i, known := b.keyIndex[keyID]; known {
		return i
	}
	if len(b.keys) >= maxKeys {
		keyID = otherKeys
		if i, known := b.keyIndex[keyID]; known {
			return i
		}
	}
	i := b.nextKey
	b.nextKey++
	b.keys = append(b.keys, keyID)
	b.keyIndex[keyID] = i
	return i
}

// makeRoom folds the oldest page when all are full.
func (b *books) makeRoom() {
	if len(b.pages) < b.maxPages {
		return
	}
	for _, r := range b.pages[0] {
		if len(b.folded) == 0 {
			b.firstFold, b.lastFold = r.at, r.at
		}
		b.firstFold, b.lastFold = min(b.firstFold, r.at), max(b.lastFold, r.at)
		sum := b.folded[pair{r.model, r.key}]
		sum.add(r.nano)
		b.folded[pair{r.model, r.key}] = sum
	}
	b.pages = slices.Clone(b.pages[1:])
}

// view is a consistent copy of the books that needs no lock to read.
type view struct {
	pages     [][]record
	keys      []string
	folded    map[pair]total
	firstFold int64
	lastFold  int64
}

func (b *books) view() view {
	b.mu.Lock()
	defer b.mu.Unlock()
	v := view{slices.Clone(b.pages), slices.Clone(b.keys), make(map[pair]total, len(b.folded)), b.firstFold, b.lastFold}
	for p, sum := range b.folded {
		v.folded[p] = sum
	}
	return v
}

// sums collects a bill by index before the names are put in.
type sums struct {
	all     total
	byModel []total
	byKey   []total
}

func (s *sums) add(model, key int32, t total) {
	s.all.join(t)
	s.byModel[model].join(t)
	s.byKey[key].join(t)
}

// bill sums the span [since, until); a zero time leaves that side open.
func (v view) bill(models []*model, since, until time.Time) Bill {
	from, to := int64(math.MinInt64), int64(math.MaxInt64)
	if !since.IsZero() {
		from = since.UnixNano()
	}
	if !until.IsZero() {
		to = until.UnixNano()
	}
	s := sums{byModel: make([]total, len(models)), byKey: make([]total, len(v.keys))}
	inexact := false
	if len(v.folded) > 0 && v.firstFold < to && v.lastFold >= from {
		inexact = v.firstFold < from || v.lastFold >= to
		for p, t := range v.folded {
			s.add(p.model, p.key, t)
		}
	}
	for _, page := range v.pages {
		for _, r := range page {
			if r.at >= from && r.at < to {
				var t total
				t.add(r.nano)
				s.add(r.model, r.key, t)
			}
		}
	}
	bill := Bill{Line: s.all.line(), ByModel: make(map[string]Line), ByKey: make(map[string]Line), Inexact: inexact}
	for i, m := range models {
		if t := s.byModel[i]; t.requests > 0 {
			bill.ByModel[m.id] = t.line()
		}
	}
	for i, t := range s.byKey {
		if t.requests > 0 {
			bill.ByKey[v.keys[i]] = t.line()
		}
	}
	return bill
}
