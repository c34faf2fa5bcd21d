package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore"
	"github.com/budgetguard/budgetguard/internal/apikey"
)

func (a *app) seedCommand() *cobra.Command {
	c := &cobra.Command{Use: "seed", Short: "Make the demo tenant with a small budget and print a key for it", Args: noArgs}
	known := bind(c, []setting{{"DATABASE_URL", "", true, "Postgres"}, {"KEY_PEPPER", "", true, "HMAC key of stored tenant keys"}}, budgetSettings(), commonSettings())
	output := c.Flags().StringP("output", "o", "table", "table or json")
	once := c.Flags().Bool("once", false, "issue a key only where the tenant never had one")
	c.RunE = func(c *cobra.Command, _ []string) error {
		v := &values{environ: a.environ, command: c, known: known}
		url, pepper, log := v.needed("DATABASE_URL"), []byte(v.text("KEY_PEPPER")), logger(v, a.stderr)
		l, err := limitsOf(v)
		if v.err != nil || err != nil {
			return errors.Join(v.err, err)
		}
		if err := checkMigrated(c, url, false); err != nil {
			return err
		}

		// Looked up before the ledger is opened: most starts of a container find a key and end here.
		if *once {
			found, err := demoHasKey(c.Context(), url)
			if err != nil {
				return err
			}
			if found {
				return a.printSeed(*output, "", "has one already; its secret is not stored")
			}
		}

		ledger, err := eventstore.OpenLedger(c.Context(), eventstore.Config{URL: url, Now: time.Now, Logger: log})
		if err != nil {
			return err
		}
		secret, err := seedDemo(c.Context(), ledger, l, pepper)
		if err = errors.Join(err, ledger.Close(c.Context())); err != nil {
			return err
		}
		return a.printSeed(*output, secret, secret)
	}
	return c
}

// printSeed prints the demo tenant and its key: for machines the secret, empty where none was issued,
// for people what they need to know about it.
func (a *app) printSeed(output, secret, note string) error {
	if output == "json" {
		return json.NewEncoder(a.stdout).Encode(map[string]string{"tenant": string(demoTenant), "key": secret})
	}
	_, err := fmt.Fprintf(a.stdout, "tenant %s\nkey    %s\n", demoTenant, note)
	return err
}

// demoHasKey reports whether the demo tenant ever had a key. A revoked one counts: it was taken away on
// purpose, and a restart must not bring another in its place.
func demoHasKey(ctx context.Context, url string) (bool, error) {
	store, err := eventstore.OpenStore(ctx, url)
	if err != nil {
		return false, err
	}
	defer store.Close()

	state, err := store.State(ctx, demoTenant)
	if errors.Is(err, domain.ErrTenantUnknown) {
		return false, nil
	}
	return len(state.Keys) > 0, err
}

// seedDemo makes the demo tenant, if it is not there, and a new key for it.
func seedDemo(ctx context.Context, ledger *eventstore.Ledger, l limits, pepper []byte) (secret string, err error) {
	if err := createTenant(ctx, ledger, l, demoTenant, "Demo"); err != nil {
		return "", err
	}
	key, err := apikey.New(rand.Reader)
	if err != nil {
		return "", err
	}
	id, err := apikey.NewKeyID(rand.Reader)
	if err != nil {
		return "", err
	}
	_, err = ledger.Do(ctx, demoTenant, domain.IssueKey{
		ID: id, Name: "demo", Prefix: key.Prefix(), Hash: apikey.Hash(pepper, key.Secret()), Actor: "seed",
	})
	return key.Secret(), err
}
