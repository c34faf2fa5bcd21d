package policy_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/budgetguard/budgetguard/policy"
)

func ExampleEngine() {
	const rules = `package budgetguard.policy

default allow := true

deny contains "large models are for office hours" if {
	startswith(input.model, "gpt-4")
	not input.time in numbers.range(8, 17)
}
`
	dir, err := os.MkdirTemp("", "policy")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "policy.rego")
	if err := os.WriteFile(path, []byte(rules), 0o600); err != nil {
		panic(err)
	}
	engine, err := policy.Load(path)
	if err != nil {
		panic(err)
	}
	for _, hour := range []int{9, 22} {
		decision, err := engine.Decide(context.Background(), policy.Input{
			Route: "/v1/chat/completions",
			Model: "gpt-4o",
			Now:   time.Date(2026, 11, 23, hour, 0, 0, 0, time.UTC),
		})
		fmt.Println(decision.Allow, decision.Messages, err)
	}
	// Output:
	// true [] <nil>
	// false [large models are for office hours] <nil>
}
