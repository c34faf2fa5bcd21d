package eventstore

import (
	"context"
	_ "embed"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/budgetguard/budgetguard/domain/pricing"
)

//go:embed queries/raise_allowance.sql
var raiseAllowanceSQL string

// Allowances lists what overruns taught, by the id of the model's row in the catalogue. There is at
// most a row for each of the catalogue's models.
func (s *Store) Allowances(ctx context.Context) (map[string]pricing.Allowance, error) {
	rows, err := s.pool.Query(ctx, `select model, prompt, prompt_permille, answer, uncapped, cost_permille
		from allowance`)
	if err != nil {
		return nil, fmt.Errorf("read allowances: %w", err)
	}
	known := map[string]pricing.Allowance{}
	var model string
	var a pricing.Allowance
	fields := []any{&model, &a.Prompt, &a.PromptPermille, &a.Answer, &a.Uncapped, &a.CostPermille}
	_, err = pgx.ForEachRow(rows, fields, func() error {
		known[model] = a
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read allowances: %w", err)
	}
	return known, nil
}

// RaiseAllowance adds what an overrun of a model taught to what is known. It is durable when it
// returns, and raising by the same twice is raising once.
func (s *Store) RaiseAllowance(ctx context.Context, model string, by pricing.Allowance) error {
	_, err := s.pool.Exec(ctx, raiseAllowanceSQL, pgx.NamedArgs{
		"model": model, "prompt": by.Prompt, "prompt_permille": by.PromptPermille,
		"answer": by.Answer, "uncapped": by.Uncapped, "cost_permille": by.CostPermille,
	})
	if err != nil {
		return fmt.Errorf("raise allowance of %s: %w", model, err)
	}
	return nil
}
