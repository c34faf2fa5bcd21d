package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore"
	"github.com/budgetguard/budgetguard/eventstore/audit"
)

func (a *app) ledgerCommand() *cobra.Command {
	c := &cobra.Command{Use: "ledger", Short: "Audit and repair the ledger", Args: onlyCommands, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(a.verifyCommand(), a.repairCommand())
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
		store, err := a.openLedgerStore(c, known, *output)
		if err != nil {
			return err
		}
		defer store.Close()

		progress, end := onTerminal(a.stderr)
		report, err := audit.Verify(c.Context(), store.Pool(), audit.Options{Quiet: *quiet, UsageCursor: "usage", Progress: progress})
		end()
		if err != nil {
			return err
		}

		if err := a.printReport(report, *output); err != nil {
			return err
		}
		if report.Total > 0 {
			return &exitError{code: exitUnverified, err: fmt.Errorf("the ledger does not verify: %d violations; docs/operations.md says what to do", report.Total)}
		}
		return nil
	}
	return c
}

func (a *app) repairCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "repair", Short: "Make the tables what the events say", Args: noArgs,
		Long: "Compares the tables that move with the events with what the events say, and prints what differs. With --apply it\n" +
			"makes them so, one transaction a tenant, beside running gateways; without it nothing is changed. A tenant whose\n" +
			"events do not verify is left alone. Exit code 5: something differs and was not put right.",
	}
	known := bind(c, []setting{{"DATABASE_URL", "", true, "Postgres"}})
	output := c.Flags().StringP("output", "o", "table", "table or json")
	tenant := c.Flags().String("tenant", "", "only this tenant")
	apply := c.Flags().Bool("apply", false, "write; without it only what would be changed is printed")
	c.RunE = func(c *cobra.Command, _ []string) error {
		store, err := a.openLedgerStore(c, known, *output)
		if err != nil {
			return err
		}
		defer store.Close()

		progress, end := onTerminal(a.stderr)
		report, err := audit.Repair(c.Context(), store.Pool(), audit.RepairOptions{
			Tenant: domain.TenantID(*tenant), Apply: *apply, Progress: progress,
		})
		end()
		// What was done until then is printed too.
		if printed := a.printRepair(report, *output); err == nil {
			err = printed
		}
		if err != nil {
			return err
		}
		return repairResult(report, *tenant)
	}
	return c
}

// repairResult returns the error, with its exit code, of a repair that leaves something to do, or nil.
func repairResult(report audit.Repaired, tenant string) error {
	switch {
	case tenant != "" && report.Tenants == 0:
		return usageError("--tenant: there is no tenant %q in the database; see GET /admin/tenant for their ids", tenant)
	case len(report.Refused) > 0:
		return &exitError{code: exitUnverified, err: fmt.Errorf(
			"the events of %d tenants do not verify, and nothing can be rebuilt from them: restore them from a backup (docs/operations.md)",
			len(report.Refused))}
	case report.Total > 0 && !report.Applied:
		return &exitError{code: exitUnverified, err: fmt.Errorf(
			"%d rows differ from the events; nothing was changed: run the same with --apply to put them right", report.Total)}
	}
	return nil
}

// openLedgerStore reads what the commands about the ledger share, and connects.
func (a *app) openLedgerStore(c *cobra.Command, known map[string]setting, output string) (*eventstore.Store, error) {
	v := &values{environ: a.environ, command: c, known: known}
	url := v.needed("DATABASE_URL")
	if v.err != nil {
		return nil, v.err
	}
	if output != "table" && output != "json" {
		return nil, usageError("--output: want table or json")
	}

	store, err := eventstore.OpenStore(c.Context(), url)
	if err != nil {
		return nil, configError("DATABASE_URL: %w", err)
	}
	if err := store.Ping(c.Context()); err != nil {
		store.Close()
		return nil, dependencyError("Postgres does not answer: %w", err)
	}
	if err := checkMigrated(c, url, false); err != nil {
		store.Close()
		return nil, err
	}
	return store, nil
}

// onTerminal shows how far an audit is, twice a second, where a person looks: elsewhere it is nil.
func onTerminal(w io.Writer) (progress func(tenants, events int64), end func()) {
	file, ok := w.(*os.File)
	if !ok {
		return nil, func() {}
	}
	if info, err := file.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return nil, func() {}
	}

	var last time.Time
	progress = func(tenants, events int64) {
		if time.Since(last) < time.Second/2 {
			return
		}
		last = time.Now()
		_, _ = fmt.Fprintf(w, "\r%d tenants, %d events", tenants, events)
	}
	return progress, func() {
		if !last.IsZero() {
			_, _ = fmt.Fprintln(w)
		}
	}
}

func (a *app) printReport(report audit.Report, output string) error {
	if output == "json" {
		if report.Violations == nil {
			report.Violations = []audit.Violation{}
		}
		return a.printIndented(report)
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

func (a *app) printRepair(report audit.Repaired, output string) error {
	if output == "json" {
		return a.printIndented(report)
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	what := "rows that differ"
	if report.Applied {
		what = "rows put right"
	}
	_, _ = fmt.Fprintf(w, "tenants\t%d\nevents\t%d\n%s\t%d\nrefused\t%d\n", report.Tenants, report.Events, what, report.Total, len(report.Refused))

	if len(report.Differences)+len(report.Refused) > 0 {
		_, _ = fmt.Fprintf(w, "\nTENANT\tTABLE\tFAULT\tWHAT\n")
	}
	for _, d := range report.Differences {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", d.Tenant, d.Table, d.Fault, d)
	}
	for _, r := range report.Refused {
		_, _ = fmt.Fprintf(w, "%s\tevent\trefused\t%s\n", r.Tenant, r.Reason)
	}
	return w.Flush()
}

func (a *app) printIndented(document any) error {
	e := json.NewEncoder(a.stdout)
	e.SetIndent("", "  ")
	return e.Encode(document)
}
