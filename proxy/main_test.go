package proxy_test

import (
	"context"
	"flag"
	"os"
	"sync"
	"testing"

	"github.com/budgetguard/budgetguard/domain/pricing"
	"github.com/budgetguard/budgetguard/internal/testenv"
	"github.com/budgetguard/budgetguard/migrations"
	"github.com/budgetguard/budgetguard/proxy/tokens"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(testenv.Main(m, testenv.WithLeakCheck(), testenv.WithTemplate(func(ctx context.Context, url string) error {
		_, err := migrations.Up(ctx, url)
		return err
	})))
}

// counter and catalogue take a moment to make and never change, so the tests share them.
var (
	counter = sync.OnceValue(func() *tokens.Counter {
		c, err := tokens.New()
		if err != nil {
			panic(err)
		}
		return c
	})
	catalogue = sync.OnceValue(func() *pricing.Catalogue {
		c, err := pricing.Parse(pricing.Embedded(), "embedded")
		if err != nil {
			panic(err)
		}
		return c
	})
)
