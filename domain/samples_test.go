package domain_test

import (
	"time"

	. "github.com/budgetguard/budgetguard/domain"
)

// samples has one event of each type with every field filled, so that a golden file shows them all.
func samples() []Event {
	berlin, err := ParseZone("Europe/Berlin")
	if err != nil {
		panic(err)
	}
	perMin, expires := int64(50), at("2027-01-01")
	alerts := []Threshold{500_000, 800_000, 1_000_000}
	return append(usageSamples(),
		TenantCreated{Name: "ACME <& Söhne>", Zone: berlin, RateLimitPerMin: &perMin, Actor: "admin"},
		TenantChanged{Name: "ACME", Zone: berlin, Actor: "admin"},
		TenantSuspended{Reason: "unpaid", Actor: "admin"},
		TenantResumed{Actor: "admin"},
		APIKeyIssued{
			KeyID: "key_1", Name: "ci", Prefix: "bgk_ab12", KeyHash: "v1:00ff", ExpiresAt: &expires,
			Models: []string{"gpt-4", "gpt-3.5-turbo"}, Tags: map[string]string{"team": "search", "env": "prod"}, RequiredTags: []string{"job"}, Actor: "admin",
		},
		APIKeySuspended{KeyID: "key_1", Reason: "leaked?", Actor: "admin"},
		APIKeyResumed{KeyID: "key_1", Actor: "admin"},
		APIKeyRotated{KeyID: "key_1", Prefix: "bgk_cd34", KeyHash: "v1:11ee", OldUntil: expires, OldKeyHash: "v1:00ff", Actor: "admin"},
		APIKeyRevoked{KeyID: "key_1", Actor: "admin"},
		RateLimitChanged{RateLimitPerMin: &perMin, Actor: "admin"},
		BudgetDefined{
			Budget: "month", Period: Monthly,
			Span:  Span{Duration: Length(36 * time.Hour), StartDate: "2026-11-01", EndDate: "2026-11-30", WeekStart: "sunday", AnchorDay: 15},
			Start: at("2026-10-31T23:00"), End: at("2026-11-30T23:00"), Scope: Scope{APIKey: "key_1", Model: "gpt-4", Tag: "team=search"},
			Limit: usd("100"), AlertsAt: alerts, Source: SourceEnvironment, Actor: "environment",
		},
		BudgetChanged{
			Budget: "month", Limit: usd("50"), OldLimit: usd("100"), AlertsAt: alerts, Source: SourceAdmin,
			Raises: []Raise{{By: usd("5"), Until: expires}}, Reason: "launch", Postings: postingSamples(), Actor: "admin",
		},
		BudgetRetired{Budget: "month", Actor: "admin"},
		BudgetThresholdCrossed{
			Budget: "month", Account: 7, Threshold: 800_000, Limit: usd("100"), Use: usd("80.5"), TenantName: "ACME", Period: Monthly, Scope: Scope{APIKey: "key_1", Model: "gpt-4", Tag: "team=search"},
			Start: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), End: time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC), Held: usd("0.5"), Reservation: reservationSample,
		},
		WindowOpened{
			Account: 7, Budget: "month", Period: Monthly, Start: at("2026-10-31T23:00"), End: at("2026-11-30T23:00"), Zone: berlin,
			Limit: usd("100"), Settled: usd("3"), Held: usd("2"), Presumed: usd("1"), Adopted: []ReservationID{reservationSample},
			Duration: Length(30 * 24 * time.Hour), Buckets: []Bucket{{Number: 41_000, Settled: usd("3"), Presumed: usd("1")}},
		},
		WindowSlid{Account: 7, Budget: "rolling", Aged: usd("0.25"), Oldest: 1_795_305_600, Postings: postingSamples()},
	)
}

const reservationSample ReservationID = "0199c9a4-7a1e-7cc3-98c4-dc0c0c07398f"

func requestSample() Request {
	return Request{
		Reservation: reservationSample, RequestID: "req_1", Route: "/v1/chat/completions", Provider: "openai", Model: "gpt-4",
		Tier: TierDefault, KeyID: "key_1", Tags: map[string]string{"team": "search"}, Stream: true,
		Estimate: Estimate{PromptTokens: 12, CompletionTokens: 8192, Basis: "tiktoken:cl100k_base"},
		Prices:   "2026-11-22", Policy: "sha256:ab12", Idempotency: "order-77", Fingerprint: "sha256:cd34", Gateway: "gw-1",
	}
}

func postingSamples() []Posting {
	return []Posting{
		{Account: 7, Budget: "month", Limit: usd("50"), Settled: usd("51.5"), Held: usd("0.49188"), Presumed: usd("1"), Forced: true},
		{Account: 9, Budget: "total", Limit: usd("1000"), Settled: usd("51.5"), Held: usd("0.49188"), Presumed: usd("1")},
	}
}

func usageSamples() []Event {
	reserved, expires := at("2026-11-22T10:00:00.000001Z"), at("2026-11-22T10:15:00.000001Z")
	usage := Usage{Prompt: 12, Cached: 4, CacheWrite: 2, CacheWriteLong: 1, AudioPrompt: 1, Completion: 30, Reasoning: 20, AudioAnswer: 3}
	hold := usd("0.49188")
	return []Event{
		UsageReserved{Request: requestSample(), Amount: hold, ExpiresAt: expires, Postings: postingSamples()},
		ReservationExtended{
			Request: requestSample(), ReservedAt: reserved, Added: usd("0.1"), Amount: usd("0.59188"),
			ExpiresAt: expires.Add(time.Minute), Postings: postingSamples(),
		},
		UsageSettled{
			Request: requestSample(), ReservedAt: reserved, Reserved: hold, Charged: usd("0.5"), Overrun: usd("0.00812"), Basis: BasisProvider,
			Usage: usage, AnsweredModel: "gpt-4-0613", AnsweredTier: TierDefault, Reason: "answered", Postings: postingSamples(),
		},
		ReservationReleased{Request: requestSample(), ReservedAt: reserved, Reserved: hold, Reason: "never sent", Postings: postingSamples()},
		ReservationExpired{Request: requestSample(), ReservedAt: reserved, Reserved: hold, Charged: hold, Reason: ReasonOrphaned, Postings: postingSamples()},
		UsageSettledLate{
			Request: requestSample(), ReservedAt: reserved, WasCharged: hold, Charged: usd("0.002"), Delta: usd("-0.48988"), Basis: BasisCounted,
			Usage: usage, AnsweredModel: "gpt-4-0613", AnsweredTier: TierDefault, Reason: "found in the log", Postings: postingSamples(),
		},
		UsageAdjusted{
			Reservation: reservationSample, ReservedAt: reserved, Route: "/v1/chat/completions", Model: "gpt-4", KeyID: "key_1", Confirmed: true,
			Tags: map[string]string{"team": "search"}, Delta: usd("-1.25"), WasPresumed: usd("2.5"), Reason: "credit note 12", Idempotency: "adj-1", Postings: postingSamples(), Actor: "admin",
		},
	}
}
