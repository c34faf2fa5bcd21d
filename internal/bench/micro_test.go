package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore"
	"github.com/budgetguard/budgetguard/internal/embedded"
	"github.com/budgetguard/budgetguard/migrations"
)

const sample = `goos: linux
pkg: example.com/p
BenchmarkDecide/default-2         	   20000	     17123 ns/op	    4096 B/op	      62 allocs/op
BenchmarkAppend/clients=64-2      	    5000	    210000 ns/op	     11500 ops/s	    9000 B/op	     120 allocs/op
BenchmarkBroken
--- BENCH: BenchmarkX
PASS
`

func TestMicroBenchmarksAreReadFromGoTest(t *testing.T) {
	t.Parallel()
	got := readMicro([]byte(sample))
	want := []micro{{"Decide/default", 17123, 4096, 62, 0}, {"Append/clients=64", 210000, 9000, 120, 11500}}
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func FuzzReadMicro(f *testing.F) {
	f.Add([]byte(sample))
	f.Add([]byte("BenchmarkX-2 1 NaN ns/op"))
	f.Fuzz(func(t *testing.T, out []byte) {
		for _, m := range readMicro(out) {
			if !(m.nanos > 0) {
				t.Errorf("%+v took no time", m)
			}
		}
	})
}

const limit = domain.Amount(1_000_000_000_000_000)

// pair is what a request does to a stream.
func pair(id string) (domain.Reserve, domain.Settle) {
	reserve := domain.Reserve{
		Request: domain.Request{
			Reservation: domain.ReservationID(id), RequestID: "req_" + id, Route: path, Provider: "openai", Model: model, Tier: domain.TierDefault,
			KeyID: "key-1", Estimate: domain.Estimate{PromptTokens: 60, CompletionTokens: maxTokens, Basis: "bound"}, Prices: "2026-11-01", Gateway: "bench",
		},
		Amount: 130_000, TTL: 15 * time.Minute,
	}
	settle := domain.Settle{Reservation: reserve.Reservation, Charged: 120_000, Basis: domain.BasisProvider, Usage: domain.Usage{Prompt: 40, Completion: maxTokens}}
	return reserve, settle
}

// opening is a tenant with a key, a daily and a monthly budget.
func opening(tenant domain.TenantID) []domain.Command {
	hash := sha256.Sum256([]byte(tenant))
	return []domain.Command{
		domain.CreateTenant{Name: "Bench", Actor: "bench"},
		domain.IssueKey{ID: "key-1", Name: "bench", Prefix: "bgk_bench", Hash: hex.EncodeToString(hash[:]), Actor: "bench"},
		domain.DefineBudget{ID: "daily", Period: domain.Daily, Limit: limit, Source: domain.SourceAdmin, Actor: "bench"},
		domain.DefineBudget{ID: "monthly", Period: domain.Monthly, Limit: limit, Source: domain.SourceAdmin, Actor: "bench"},
	}
}

// BenchmarkDecide decides and evolves one request: a reservation on two budgets and its settlement.
func BenchmarkDecide(b *testing.B) {
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	state := domain.NewState("bench")
	execute := func(c domain.Command) {
		var err error
		if state, _, err = domain.Execute(state, c, at); err != nil {
			b.Fatal(err)
		}
	}
	for _, c := range opening("bench") {
		execute(c)
	}
	reserve, settle := pair(uuid.NewString())
	b.ReportAllocs()
	for b.Loop() {
		execute(reserve)
		execute(settle)
	}
}

// BenchmarkAppend writes requests, a reservation and a settlement each, to a Postgres that waits for its disk, over
// 50 tenants. An operation is such a pair.
func BenchmarkAppend(b *testing.B) {
	dir := filepath.Join(b.TempDir(), "data")
	server, err := embedded.StartPostgres(b.Context(), embedded.Config{Dir: dir, Durable: true})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), removeWithin)
		defer cancel()
		if err := server.Stop(ctx); err != nil {
			b.Error(err)
		}
		if err := embedded.Remove(dir); err != nil {
			b.Error(err)
		}
	})
	if _, err := migrations.Up(b.Context(), server.URL()); err != nil {
		b.Fatal(err)
	}
	for _, clients := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) { appendPairs(b, server.URL(), clients) })
	}
}

func appendPairs(b *testing.B, url string, clients int) {
	b.Helper()
	ledger, err := eventstore.OpenLedger(b.Context(), eventstore.Config{URL: url, Now: time.Now})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := ledger.Close(context.WithoutCancel(b.Context())); err != nil {
			b.Error(err)
		}
	}()
	const tenants = 50
	var names []domain.TenantID
	for i := range tenants {
		names = append(names, domain.TenantID(fmt.Sprintf("t%d-%s", i, uuid.NewString()[:8])))
		for _, c := range opening(names[i]) {
			if _, err := ledger.Do(b.Context(), names[i], c); err != nil {
				b.Fatal(err)
			}
		}
	}
	var next atomic.Int64
	request := func(i int64) error {
		reserve, settle := pair(uuid.NewString())
		tenant := names[i%tenants]
		if _, err := ledger.Do(b.Context(), tenant, reserve); err != nil {
			return err
		}
		_, err := ledger.Do(b.Context(), tenant, settle)
		return err
	}
	b.ReportAllocs()
	b.ResetTimer()
	var done sync.WaitGroup
	for range clients {
		done.Go(func() {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				if err := request(i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	done.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
}
