package main

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"time"

	"github.com/budgetguard/budgetguard/internal/mockupstream"
)

const (
	// quietWithin bounds the wait for the worker. Longer behind, it could not keep up in production either.
	quietWithin = 3 * time.Minute
	quietEvery  = 50 * time.Millisecond
)

// quiet waits until every event is published and projected and says how long that took.
func (s *stage) quiet(ctx context.Context, now func() time.Time) (time.Duration, error) {
	began := now()
	ctx, cancel := context.WithTimeout(ctx, quietWithin)
	defer cancel()
	ticker := time.NewTicker(quietEvery)
	defer ticker.Stop()
	for {
		done, err := s.isQuiet(ctx)
		if err != nil {
			return 0, fmt.Errorf("ask whether the worker has caught up: %w", err)
		}
		if done {
			return now().Sub(began), nil
		}
		select {
		case <-ticker.C:
		case <-s.worker.done:
			return 0, s.worker.died()
		case <-ctx.Done():
			return 0, fmt.Errorf("the worker did not catch up within %s", quietWithin)
		}
	}
}

// isQuiet asks the cheap question first, so as not to slow down what it waits for.
func (s *stage) isQuiet(ctx context.Context) (bool, error) {
	var waiting bool
	if err := s.pool.QueryRow(ctx, "select exists (select from outbox) or exists (select from hold)").Scan(&waiting); err != nil || waiting {
		return false, err
	}
	var settled, rows int64
	err := s.pool.QueryRow(ctx, `
		select (select count(*) from event where type in ('usage.settled', 'reservation.expired', 'usage.settled_late', 'usage.adjusted')),
		       (select count(*) from "UsageLedger")`).Scan(&settled, &rows)
	return settled == rows, err
}

// verdict compares our books with the provider's.
type verdict struct {
	billed, ledgered       int64
	billedUSD, ledgeredUSD string
	verified               bool
	says                   string
}

func (v verdict) agrees() bool {
	a, okA := new(big.Rat).SetString(v.billedUSD)
	b, okB := new(big.Rat).SetString(v.ledgeredUSD)
	return okA && okB && a.Cmp(b) == 0 && v.billed == v.ledgered
}

func (v verdict) err() error {
	if !v.agrees() {
		return errors.New("the UsageLedger and the provider's bill differ: the figures mean nothing")
	}
	if !v.verified {
		return errors.New("the ledger does not verify: the figures mean nothing")
	}
	return nil
}

// reconcile asks the provider for its bill, the database for the ledger's sum, and ledger verify for the rest.
func (s *stage) reconcile(ctx context.Context) (verdict, error) {
	var v verdict
	var bill mockupstream.Bill
	if err := s.call(ctx, http.MethodGet, s.mock.url+"/bill", "", "", &bill); err != nil {
		return v, fmt.Errorf("ask for the bill: %w", err)
	}
	share := bill.ByKey[mockupstream.KeyID(guardKey)]
	v.billed, v.billedUSD = share.Requests, share.TotalUsd
	err := s.pool.QueryRow(ctx, `select count(*), coalesce(sum(usd), 0)::text from "UsageLedger"`).Scan(&v.ledgered, &v.ledgeredUSD)
	if err != nil {
		return v, fmt.Errorf("sum the UsageLedger: %w", err)
	}
	cmd := exec.CommandContext(ctx, s.binary, "ledger", "verify", "--quiet") //nolint:gosec // the binary we built
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "DATABASE_URL=" + s.postgres.URL()}
	out, err := cmd.CombinedOutput()
	v.verified, v.says = err == nil, string(out)
	return v, nil
}
