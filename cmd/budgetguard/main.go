// Command budgetguard is the gateway, its workers and its tools in one binary.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // for images without zoneinfo

	"github.com/spf13/cobra"
)

// version is set by the build: -ldflags "-X main.version=v1.2.3".
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the whole program: it touches nothing of the process but its arguments, so tests run it as it
// is. It returns the exit code.
func run(ctx context.Context, args, environ []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{environ: newEnvironment(environ), stdout: stdout, stderr: stderr}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	_, _ = fmt.Fprintf(stderr, "budgetguard: %v\n", err)
	return exitCode(err)
}

// app is what the commands share.
type app struct {
	environ        environment
	stdout, stderr io.Writer
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "budgetguard",
		Short:         "An LLM gateway that stops spend before it happens and can prove every cent afterwards",
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version,
		Args:          onlyCommands,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError("%v", err) })
	root.AddCommand(
		a.devCommand(), a.serveCommand(), a.workerCommand(), a.migrateCommand(), a.seedCommand(),
		a.mockCommand(), a.ledgerCommand(), a.healthCommand(), a.versionCommand(),
	)
	return root
}

// onlyCommands refuses what is no command of c.
func onlyCommands(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError("unknown command %q; see %s --help", args[0], c.CommandPath())
	}
	return nil
}
