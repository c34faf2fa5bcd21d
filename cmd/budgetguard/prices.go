package main

import (
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"os"
	"strings"

	"github.com/budgetguard/budgetguard/domain/pricing"
)

// catalogueBytes is the price catalogue: the file at path, or the embedded one.
func catalogueBytes(path string) ([]byte, error) {
	if path == "" {
		return pricing.Embedded(), nil
	}
	const largest = 64 << 20
	info, err := os.Stat(path)
	if err != nil {
		return nil, configError("PRICES_PATH: %w", err)
	}
	if info.Size() > largest {
		return nil, configError("PRICES_PATH: %s is larger than %d bytes", path, largest)
	}
	data, err := os.ReadFile(path) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, configError("PRICES_PATH: %w", err)
	}
	return data, nil
}

// catalogue is the price catalogue at path, versioned by its content.
func catalogue(path string) (*pricing.Catalogue, error) {
	data, err := catalogueBytes(path)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(data)
	c, err := pricing.Parse(data, hex.EncodeToString(sum[:8]))
	if err != nil {
		return nil, configError("PRICES_PATH: %w", err)
	}
	return c, nil
}

// surcharge is what a provider's regional address costs more, in percent: OpenAI bills requests to
// eu.api.openai.com and the like at 1.1 times the list price (OpenAI pricing page, data residency).
func surcharge(upstream *url.URL) int64 {
	const regional = 10
	host := strings.ToLower(upstream.Hostname())
	if strings.HasSuffix(host, ".api.openai.com") {
		return regional
	}
	return 0
}
