package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/internal/mockupstream"
)

// billLine is one request that the provider bills, from its journal.
type billLine struct {
	at     time.Time
	amount domain.Amount
	key    string // mockupstream.KeyID of the call's name
}

// readBill reads the provider's journal. Its form is that of mockupstream; it is read here by other code, for the
// journal is the oracle.
func (s *stage) readBill() ([]billLine, error) {
	raw, err := os.ReadFile(s.journal())
	if err != nil {
		return nil, err
	}
	var lines []billLine
	for text := range strings.Lines(string(raw)) {
		if !strings.HasSuffix(text, "\n") {
			return nil, errors.New("the journal's last line is cut: the provider was killed while it wrote it")
		}
		var at, nano int64
		var key, model string
		if _, err := fmt.Sscan(text, &at, &nano, &key, &model); err != nil {
			return nil, fmt.Errorf("journal: %q: %w", text, err)
		}
		lines = append(lines, billLine{time.Unix(0, at), domain.Amount(nano), key})
	}
	return lines, nil
}

// billTotal is what the provider itself says it invoices.
func (s *stage) billTotal(ctx context.Context) (domain.Amount, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.mockURL+"/bill", nil)
	if err != nil {
		return 0, err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err
	}
	defer func() { _ = answer.Body.Close() }() // read to its end
	var bill mockupstream.Bill
	if err := json.NewDecoder(answer.Body).Decode(&bill); err != nil {
		return 0, err
	}
	return domain.ParseAmount(bill.TotalUsd)
}
