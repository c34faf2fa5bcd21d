// Command bench measures what BudgetGuard adds to a call, next to what a plain reverse proxy adds and next to no proxy
// at all, in one run on one machine: go run ./internal/bench, or make bench.
//
// # What runs
//
// Everything is a process of its own, as in production: Postgres and Redis (durable: each commit waits for the disk),
// the mock provider, a gateway, a worker, and as a yardstick a plain [net/http/httputil.ReverseProxy]. The gateway has
// everything on: tenant keys, rate limits in Redis, token counting, policy, reservation and settlement in Postgres,
// events to Redis Streams, projections. All traffic stays on 127.0.0.1; all processes and data are gone at the end.
//
// # How it is measured
//
// Latency: requests are due at a fixed rate, whatever happened to those before (open loop), and each one's latency
// counts from the time it was due. A server that stalls is charged for everybody who had to wait.
//
// Throughput: a fixed number of clients, each sending its next request when it has its answer (closed loop).
//
// The targets take turns in short rounds, so that a disturbance of the machine meets all of them; latencies of the
// rounds are pooled, throughputs are medians. Before another target has its turn the worker catches up, and how long
// that took is shown: work that is put off is not hidden.
//
// # What must be true at the end
//
// The UsageLedger adds up, to the nano-dollar, to what the provider's own bill says of the gateway's key, and
// budgetguard ledger verify finds nothing. Otherwise the figures mean nothing and the exit code is 1.
package main
