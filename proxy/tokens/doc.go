// Package tokens counts the tokens that text costs, never too few.
//
// A hold must be at least what the provider will bill, so [Counter.Bound] is an upper bound of the
// input of a request. It is the sum of three parts:
//
//   - the text: exact where the encoding is known, and one token for each byte where it is not,
//     because an ordinary token of a byte-level BPE covers at least one byte;
//   - the framing: what every chat format adds at most for each message, tool and the like;
//   - the [Allowance]: what the provider adds that no text of the request shows, such as the system
//     message of a chat template, or the prompt that explains tools to the model.
//
// # Why not call tiktoken-go for each request
//
// The vocabularies are those of tiktoken-go-loader, embedded in the binary, and the tests hold
// every count against github.com/pkoukk/tiktoken-go, the reference here. It is not called at run
// time because its merge is quadratic in one piece of text (12 s for 100 KB of the letter a) and
// its regular expressions take 1.3 s for 1 MB of English: one request could stop a gateway. This
// package cuts text with a hand-written scanner for the same patterns and merges in n log n, and
// gives the same numbers.
//
// # Cost
//
// Work is bounded for one call: pieces longer than 4 KiB, more than 4 MiB of text that needs
// merging (words that are no token), and text beyond 8 MiB are counted in bytes: more than their
// tokens, never less. BenchmarkEstimate on a busy two-core AMD EPYC: 200 B of English 3 us, 4 KB 58
// us, 100 KB 1.5 ms, 8 MB 0.11 s (14 ms for each MB); 100 KB of Chinese 7.4 ms; 100 KB of the
// letter a 0.3 ms; the slowest 32 MB that we know to make, about a second. Counting allocates
// nothing but for words above 96 bytes.
package tokens
