// Package admin is the edge for operators: the REST API under /admin, its OpenAPI document and Swagger UI,
// health, readiness and metrics.
//
// # How a request goes
//
//	request id → admin key → policy → query and body, strictly → handler → JSON or problem+json
//
// A handler sees a call and gives an answer; echo ends in serve.go. Handlers decide nothing: they turn
// JSON into commands of package domain, and states into JSON. What a command may do is said by
// domain.Decide; a command that is several (a tenant with its budgets) is tried on a copy of the state
// first, so that nothing is written of a body that is wrong in one place.
//
// # Who gets in
//
// Who holds the admin key, sent as X-Admin-Key and compared in constant time. Ten failures a minute from
// one address (IPv6: one /64) turn further ones into 429. As long as they repeat fewer than ten different
// keys the right one still passes: a forgotten script with an old key locks nobody out. Ten different
// wrong keys within a minute are somebody guessing, and until the minute is over that address is refused
// whatever it sends. Addresses come from echo's IPExtractor, which the server must set.
//
// # Errors
//
// RFC 9457, application/problem+json, with code, requestId and, where a body or a query is wrong, all
// that is wrong with it under errors. errors.go maps the kinds of package domain to statuses.
//
// Nothing here caches: what it answers has been read from the ledger for that request.
package admin
