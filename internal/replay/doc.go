// Command replay plays recorded exchanges with providers against a real gateway, and holds what
// comes out against what was recorded:
//
//	go run ./internal/replay FILE...
//
// A file has one JSON object a line: request_body and response_body are the recorded bytes, and
// status, response_headers, endpoint, url, usage and the like say the rest; see record. The
// gateway runs in this process, in front of a Postgres of its own; an upstream answers each
// request with its recorded answer.
//
// Every exchange must be passed byte for byte (but for a usage that only the gateway asked for),
// or be refused for a stated reason; its hold must be at or above its cost, the bound of its
// prompt at or above the counted prompt, and its charge must be what the usage costs. That is
// computed here a second time, from the catalogue's file with arithmetic of this command's own:
// an oracle does not use what it judges.
//
// Where a usage can be read in several documented ways, the dearest counts. An exchange without a
// recorded usage, or without a price in the file, is checked for its bytes and its hold's end only,
// and is counted as that.
//
// What it cannot see: all answers come from one address, so a provider is the one that the
// catalogue names for the model, not the one of the recorded URL; and an answer that was cut is
// played as if it had ended.
//
// It prints tables, or JSON with -o json, and every exchange with -all. It exits with 1 if an
// exchange violates any of this.
package main
