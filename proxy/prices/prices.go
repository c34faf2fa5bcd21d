// Package prices embeds the price catalogue that is used where PRICES_PATH names no other.
package prices

import (
	_ "embed"
	"slices"
)

//go:embed prices.json
var catalogue []byte

// Catalogue is the embedded file's bytes; the caller owns the copy.
func Catalogue() []byte { return slices.Clone(catalogue) }
