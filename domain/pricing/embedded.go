package pricing

import (
	_ "embed"
	"slices"
)

//go:embed prices.json
var embedded []byte

// Embedded is the catalogue that is used where PRICES_PATH names no other; the caller owns the copy.
func Embedded() []byte { return slices.Clone(embedded) }
