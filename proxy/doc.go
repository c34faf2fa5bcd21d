// Package proxy is the OpenAI-compatible edge: what a program talks to when it swaps its base URL.
//
// A request goes through the files in this order:
//
//	authenticate.go   whose is it
//	limit.go          has the tenant sent too many
//	price.go          what does it ask for, what is the most it can cost
//	admit.go          does policy allow it, does every budget have room: policy, then the reservation
//	clamp.go          if not, and the client wants that: a shorter answer, for which there is room
//	forward.go        the body, byte for byte but for the edits of package request, to the provider
//	decode.go         what came back: a look at its first bytes
//	answer.go         back to the client, metered on the way (stream.go for streams)
//	settle.go         what it really cost, or what has to be presumed
//
// Nothing is forwarded before the reservation is committed. From then on exactly one of settle, presume
// and release is sent to the ledger, whatever happens to the client; what even that cannot reach is
// charged by the reaper when the reservation's time is over.
//
// The package knows no database, no Redis and no event: it declares the few methods it needs.
package proxy
