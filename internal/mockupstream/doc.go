// Package mockupstream is an OpenAI-compatible provider that invents its answers and keeps an exact bill: the outside
// oracle against which the gateway is tested, and the upstream of a demo that has no key.
//
// # An oracle stands alone
//
// It imports no other package of this module. It reads the price catalogue with code of its own, multiplies with
// arithmetic of its own, and rounds up once per request to the nano-dollar. When its bill and the ledger disagree, one
// of them is wrong, and they cannot both be wrong in the same way.
//
// # What is served
//
// POST /v1/chat/completions and POST /v1/completions (streamed and not), GET /v1/models, each also without /v1.
// GET /bill and GET or POST /control steer and read the mock itself and need no key. Everything else is a 404 in
// OpenAI's form; a call without a Bearer key is a 401. Any model of the catalogue is served at both endpoints, gpt-3.5-turbo
// on /v1/completions included. The response names the dated snapshot where the catalogue lists one.
//
// # How an answer is planned
//
// The answer follows from the prompt alone: equal prompts get equal answers. It has [DefaultAnswerTokens] pieces (at
// /v1/completions without max_tokens 16, as at OpenAI), or fewer where max_tokens, max_completion_tokens (the larger
// of the two) or the model's maximum says so. One piece is one completion token and, in a stream, one chunk; each is a
// word that any BPE tokenizer splits into one token or more, so whoever counts chunks or tokens never counts less than
// is billed. A request with function tools is answered by a tool call, unless tool_choice is "none" or the last message
// is a tool's result.
//
// # How a prompt is counted
//
// A token for each whitespace-separated word that holds a letter or digit, at least one for a text that is not empty; 3
// for each message and 3 for the reply; the length of a prompt given as token numbers. No tiktoken vocabulary counts
// less: its patterns never join letters or digits across white space. An image, audio or file part is 765 tokens, so
// that a gateway which lets one through unpriced is found out.
//
// # When a request is billed
//
// On arrival, in full, before its answer is held, delayed or cut: a client that leaves does not make it cheaper. What
// is refused (4xx) or met by an injected error bills nothing. service_tier priority and flex are priced where the
// catalogue has a price for this request at that tier; everything else is served and priced as default, and the
// response's service_tier says which it was. A prompt above a model's long-context threshold (by the row's rule) is priced at
// those rates as a whole.
//
// # Wrong usage
//
// With the setting usage "none" no usage appears anywhere, not even as null. With "wrong" it is present and absurd:
// prompt_tokens is -7, completion_tokens is missing, total_tokens is 3, cached_tokens is 1000000000 and so above the
// prompt, reasoning_tokens is -1. The bill stays right in both.
package mockupstream
