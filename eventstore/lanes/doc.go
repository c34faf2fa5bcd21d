// Package lanes turns commands into appends: it queues them by tenant, decides them in turns on cached
// states, and writes the turns through a Journal. Package eventstore is the journal in Postgres, and its
// documentation describes the two paths and the fence; the simulator's is in memory.
//
// A Ledger runs on goroutines of its own once Start was called. Without Start the caller carries out the
// turns, one StepFast or StepLocked at a time, and provides the timer of Config.After: a test that does
// decides what happens when.
//
// The journal alone knows which database it talks to. Its errors say what is known of an outcome; see
// Journal.
package lanes
