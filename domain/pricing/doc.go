// Package pricing knows what a call can cost at most, and what it did cost: the catalogue of models,
// their rates, and the arithmetic between tokens and money.
//
// It is pure: no clock, no I/O. Prices are whole pico-dollars a token, products are summed in 128 bits
// and rounded up once to the nano-dollar.
package pricing
