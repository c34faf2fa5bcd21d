// Package sse is the meter on a provider's answer: it cuts a stream into events without changing a byte, and reads from each
// what a settlement needs.
//
// [Reader] gives every event twice: Raw, the bytes to forward exactly as they came, and Data, what the event says. An event
// is given out as soon as its blank line is there, because a client waits for it. [Meter] is fed the Data of each event (or
// the body of an answer that is no stream) and remembers the last usage, the model and tier that answered, and, in case no
// usage comes, the text.
//
// Both take what providers really send: CR, LF and CRLF, comments, no space after the colon, no [DONE], usage in a chunk of
// its own, in the last chunk with choices, or in every chunk (they are cumulative: the last one counts, they are never added).
package sse
