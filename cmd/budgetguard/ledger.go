package main

import (
	"encoding/json"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/budgetguard/budgetguard/eventstore"
	"github.com/budgetguard/budgetguard/eventstore/audit"
)

func (a *app) ledgerCommand() *cobra.Command {
	c := &cobra.Command{Use: "ledger", Short: "Audit the ledger", Args: onlyCommands, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(a.verifyCommand())
	return c
}

func (a *app) verifyCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "verify", Short: "Recompute every hash, fold every event and compare with the tables", Args: noArgs,
		Long: "Reads the database directly, in one snapshot, and changes nothing. Exit code 5: the ledger does not verify, and the\nfirst violations are named with tenant and version.",
	}
	known := bind(c, []setting{{"DATABASE_URL", "", true, "Postgres"}})
	output := c.Flags().StringP("output", "o", "table", "table or json")
	quiet := c.Flags().Bool("quiet", false, "the system is at rest: the outbox must be empty and the UsageLedger complete")
	c.RunE = func(c *cobra.Command, _ []string) error {
		v := &values{environ: a.environ, command: c, known: known}
		url := v.needed("DATABASE_URL")
		if v.err != nil {
			return v.err
		}
		if *output != "table" && *output != "json" {
			return usageError("--output: want table or json")
		}
		store, err := eventstore.OpenStore(c.Context(), url)
		if err != nil {
			return configError("DATABASE_URL: %w", err)
		}
		defer store.Close()
		if err := store.Ping(c.Context()); err != nil {
			return dependencyError("Postgres does not answer: %w", err)
		}
		if err := checkMigrated(c, url, false); err != nil {
			return err
		}
		report, err := audit.Verify(c.Context(), store.Pool(), audit.Options{Quiet: *quiet, UsageCursor: "usage"})
		if err != nil {
			return err
		}
		if err := a.printReport(report, *output); err != nil {
			return err
		}
		if report.Total > 0 {
			return &exitError{code: exitUnverified, err: fmt.Errorf("the ledger does not verify: %d violations", report.Total)}
		}
		return nil
	}
	return c
}

func (a *app) printReport(report audit.Report, output string) error {
	if output == "json" {
		if report.Violations == nil {
			report.Violations = []audit.Violation{}
		}
		e := json.NewEncoder(a.stdout)
		e.SetIndent("", "  ")
		return e.Encode(report)
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintf(w, "tenants\t%d\nevents\t%d\nviolations\t%d\n", report.Tenants, report.Events, report.Total)
	if len(report.Violations) > 0 {
		_, _ = fmt.Fprintf(w, "\nTENANT\tVERSION\tLAW\tWHAT\n")
	}
	for _, v := range report.Violations {
		_, _ = fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", v.Tenant, v.Version, v.Law, v.Detail)
	}
	return w.Flush()
}
