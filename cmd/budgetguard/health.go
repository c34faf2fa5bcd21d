package main

import (
	"context"
	"net/http"
	"time"

	"github.com/spf13/cobra"
)

func (a *app) healthCommand() *cobra.Command {
	c := &cobra.Command{Use: "health", Short: "Ask a running gateway whether it is alive (for HEALTHCHECK)", Args: noArgs}
	known := bind(c, []setting{{"PORT", "3000", false, "listener"}})
	url := c.Flags().String("url", "", "full URL to ask; default http://127.0.0.1:PORT/health")
	c.RunE = func(c *cobra.Command, _ []string) error {
		v := &values{environ: a.environ, command: c, known: known}
		if *url == "" {
			*url = "http://127.0.0.1:" + v.text("PORT") + "/health"
		}
		if v.err != nil {
			return v.err
		}
		const patience = 3 * time.Second
		ctx, cancel := context.WithTimeout(c.Context(), patience)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, *url, nil)
		if err != nil {
			return usageError("--url: %v", err)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			return dependencyError("the gateway does not answer: %w", err)
		}
		defer func() { _ = answer.Body.Close() }()
		if answer.StatusCode != http.StatusOK {
			return dependencyError("%s answers %s", *url, answer.Status)
		}
		return nil
	}
	return c
}
