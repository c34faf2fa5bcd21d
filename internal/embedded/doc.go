// Package embedded runs a private, real Postgres and a private, real Redis as
// child processes, for `budgetguard dev` and for the tests. There is no second
// kind of store: what runs here is what runs in production, only smaller.
//
// # Where things are
//
// Everything of one installation is under [Config].Dir:
//
//	postgres/          the data directory (or a link to it, see below)
//	postgres.lock      held while a process of ours uses it
//	postgres.password  0600, made once; never in an argument list
//	postgres.port      the port of the last start, used again when it is free
//	postgres.log       what the server printed (postgres.log.1: before that)
//	redis*             the same for Redis
//
// Postgres refuses to run as root. As root the servers therefore run as the user
// postgres or redis, or else nobody; a data directory that exists already keeps its owner.
// Where that user cannot reach Dir (a checkout under /root), the data is placed
// under /var/lib/budgetguard-dev, and Dir/postgres and Dir/redis are links to it.
//
// # Ends
//
// A server ends with [Server.Stop], and on Linux also when this process dies in
// any way, kill -9 included (PR_SET_PDEATHSIG, set from a thread that lives as
// long as the server). Where the kernel has no such thing, the next start in the same Dir
// finds the server by its pid file, makes sure it is ours and stops it first.
//
// Nothing here is for production: `serve` and `worker` are given their servers.
package embedded
