package audit

import (
	"fmt"
	"maps"
	"time"

	"github.com/budgetguard/budgetguard/domain"
)

// sameRequest checks that an event of a reservation's life says of the request what the one that opened it said. A
// charge is thereby not moved to another model, tag, key or route.
func (f *fold) sameRequest(r domain.Recorded, of, opened domain.Request) {
	for _, c := range []struct {
		name        string
		is, opening any
	}{
		{"request id", of.RequestID, opened.RequestID},
		{"route", of.Route, opened.Route},
		{"provider", of.Provider, opened.Provider},
		{"model", of.Model, opened.Model},
		{"service tier", of.Tier, opened.Tier},
		{"API key", of.KeyID, opened.KeyID},
		{"stream", of.Stream, opened.Stream},
		{"estimate", of.Estimate, opened.Estimate},
		{"price version", of.Prices, opened.Prices},
		{"policy revision", of.Policy, opened.Policy},
		{"idempotency key", of.Idempotency, opened.Idempotency},
		{"fingerprint", of.Fingerprint, opened.Fingerprint},
		{"gateway", of.Gateway, opened.Gateway},
	} {
		if c.is != c.opening {
			f.moved(r, of.Reservation, c.name, fmt.Sprint(c.is), fmt.Sprint(c.opening))
		}
	}
	if !maps.Equal(of.Tags, opened.Tags) {
		f.moved(r, of.Reservation, "tags", sorted(of.Tags), sorted(opened.Tags))
	}
}

// sameAdjusted checks the same of an adjustment, which repeats less. One of a reservation that was closed for good is
// not compared: nothing is remembered of it here, and its charge was.
func (f *fold) sameAdjusted(r domain.Recorded, e domain.UsageAdjusted, h hold) {
	if !e.ReservedAt.Equal(h.at) {
		f.violated(r.Version, LawClosing, "reservation %s was made at %s", e.Reservation, h.at.Format(time.RFC3339Nano))
	}
	of := h.of
	of.Route, of.Model, of.KeyID, of.Tags = e.Route, e.Model, e.KeyID, e.Tags
	f.sameRequest(r, of, h.of)
}

func (f *fold) moved(r domain.Recorded, id domain.ReservationID, name, is, opened string) {
	f.violated(r.Version, LawClosing, "reservation %s: the %s is %.80q, it was reserved with %.80q", id, name, is, opened)
}

// plausible checks what can be known of a charge without the prices of its time: no count is negative, and tokens that
// a provider billed cost something where the model has a price, as its hold shows.
func (f *fold) plausible(r domain.Recorded, id domain.ReservationID, u domain.Usage, basis domain.Basis, charged, held domain.Amount) {
	for _, c := range []struct {
		name   string
		tokens int64
	}{
		{"prompt", u.Prompt},
		{"cached", u.Cached},
		{"cache write", u.CacheWrite},
		{"long cache write", u.CacheWriteLong},
		{"audio prompt", u.AudioPrompt},
		{"completion", u.Completion},
		{"reasoning", u.Reasoning},
		{"audio answer", u.AudioAnswer},
	} {
		if c.tokens < 0 {
			f.violated(r.Version, LawPosting, "reservation %s: %d %s tokens", id, c.tokens, c.name)
		}
	}

	if basis == domain.BasisProvider && charged == 0 && held > 0 && u.Prompt > 0 && u.Completion > 0 {
		f.violated(r.Version, LawPosting, "reservation %s: %d prompt and %d completion tokens are charged nothing, and %s USD were held for them",
			id, u.Prompt, u.Completion, held)
	}
}
