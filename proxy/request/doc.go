// Package request reads what a budget must know from the body of a /v1 call, and nothing else.
//
// The body is forwarded byte for byte, so what we read must be what the provider reads. Decoding into structs with
// encoding/json would not do: it takes {"model":"gpt-4","Model":"cheap"} for a request to the cheap model, and of two equal
// names it takes the last while another reader takes the first. [Parse] is therefore a scanner of its own: names are
// matched case-exactly, a repeated name at any depth and a case variant of a top-level name we act on are refused, and so is
// everything that is not exactly one JSON object in valid UTF-8.
//
// [Parse] answers three questions: which model, how many output tokens at most ([Request.Choices] times the cap), and which
// text is billed as input ([Request.Texts] and [Request.Framing], which package tokens turns into a number). What a count
// of text cannot bound (images, audio, files, web search, stored prompts) is refused as [NotEstimable].
//
// [Edit] makes the only edits there are: it asks a stream for its usage and lowers the caps of an answer,
// and keeps every other byte.
package request
