package main

import (
	"encoding/json"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

func (a *app) versionCommand() *cobra.Command {
	c := &cobra.Command{Use: "version", Short: "Print the version", Args: noArgs}
	output := c.Flags().StringP("output", "o", "table", "table or json")
	c.RunE = func(*cobra.Command, []string) error {
		if *output == "json" {
			return json.NewEncoder(a.stdout).Encode(map[string]string{"version": version, "go": runtime.Version()})
		}
		_, err := fmt.Fprintf(a.stdout, "budgetguard %s (%s)\n", version, runtime.Version())
		return err
	}
	return c
}

func noArgs(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError("%s takes no arguments; see %s --help", c.Name(), c.CommandPath())
	}
	return nil
}
