// Package journaltest is what every lanes.Journal must do, as tests. The one in Postgres and the simulator's
// fake both pass it, so what the simulator proves of the lanes holds for the real thing.
package journaltest
