// Package flight is a gateway's flight recorder: a local file that says, for each call under way, how far it
// came. It outlives the process, not the machine: a write is in the page cache when it returns and is never
// synced, so it costs microseconds.
//
// A Recorder writes the file of this process and holds a lock on it while the process lives. Search finds the
// files of processes that are no more, and Calls in them say what closes each reservation:
//
//   - the closing command was recorded: that one, with the usage the dead gateway had seen;
//   - reserved and never dispatched: released, which is proof that nothing was billed;
//   - dispatched and nothing more: the whole hold is charged.
//
// The second is proof only while the machine has not gone down and the file is whole, because it rests on what
// the file does not say; else such a call is charged, too.
//
// A file holds a header and records, each framed by length and checksum. There is no prompt, no answer and no
// secret in it.
package flight
