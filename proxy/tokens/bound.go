package tokens

import "math"

// What the chat format costs at most beside its text, in tokens.
//
// OpenAI's cookbook (num_tokens_from_messages, num_tokens_for_tools) counts 3 for a message, 1 for
// a name, 3 to prime the answer, and for tools 12 once, 10 for each, 3 for each property and 3 for
// each enum value. It calls this an estimate, so the values are larger here.
const (
	perMessage = 8
	perName    = 1
	priming    = 3
	// perPrompt is the begin-of-text token that some providers add to each prompt of a completion.
	perPrompt = 1
	// perItem is for a value of an enum, and for an escape sequence.
	perItem  = 3
	perTool  = 16
	forTools = 12
	// perParam is a margin: the JSON punctuation of a schema is counted and not billed, and covers
	// most of a member.
	perParam = 1
	// perToolCall and perToolResult are the recipient, the channel and the special tokens that the
	// Harmony format (gpt-oss model card) puts around each, and the function's name, which it
	// repeats in the header of a result.
	perToolCall   = 8
	perToolResult = 16
	// perEscape is for one character that JSON escaping adds. The backslash is a token at most, and
	// it can split the token that it falls into.
	perEscape = 2
	// parallel is the number of tool results from which on recorded traffic counts their text as
	// escaped JSON.
	parallel = 2
)

// Framing counts what costs input without being text. Its fields are those of request.Framing.
type Framing struct {
	// Messages, Names and Tools are the chat messages, those of them with a name, and the tools
	// offered.
	Messages, Names, Tools int64
	// Items are the array elements and escape sequences in JSON that a provider renders in its own
	// notation.
	Items int64
	// Prompts are the text prompts of a completion.
	Prompts int64
	// ToolResults and ToolCalls are the messages of tools, and the calls in messages of the
	// assistant.
	ToolResults, ToolCalls int64
	// Params are the members of the objects in the schemas of tools.
	Params int64
}

// Allowance is what one provider, or one of its models, adds to a prompt that no text of the
// request shows. It comes from the catalogue. The zero value adds nothing.
type Allowance struct {
	// Preamble is added to every call: a system message of the chat template.
	Preamble int64
	// ToolPreamble is added once to a call that offers tools, and PerTool for each of them.
	ToolPreamble, PerTool int64
	// PerMessage is added to each message, beyond what every chat format costs.
	PerMessage int64
	// Percent is a margin on the tokens of the text, where the encoding is assumed and not known.
	Percent int64
}

// Bound is the most tokens of input that a request with these texts and this framing can be billed,
// short of what is not text.
//
// Each text is counted by itself, as ordinary text: <|endoftext|> in a prompt is seven tokens, not
// one. An encoding that is not one of the constants means [Bytes]. The work is bounded as the
// package comment says.
//
// The number of characters that the text of tool results would gain by being escaped as a JSON
// string once more is escaped: it counts where there are two results or more. A negative count is
// zero, and a sum that has no int64 is the largest one.
func (c *Counter) Bound(
	encoding string, texts []string, framing Framing, escaped int64, allow Allowance,
) int64 {
	t := tally{mergeLeft: mergeMax, textLeft: textMax}
	for _, text := range texts {
		c.count(&t, encoding, text)
	}

	total := plus(margin(t.tokens, allow.Percent), framing.tokens())
	if framing.ToolResults >= parallel {
		total = plus(total, times(perEscape, escaped))
	}
	return plus(total, allow.tokens(framing))
}

// tokens is what every chat format costs at most.
func (f Framing) tokens() int64 {
	total := times(perMessage, f.Messages)
	if f.Messages > 0 {
		total = plus(total, priming)
	}
	if f.Tools > 0 {
		total = plus(total, forTools)
	}

	total = plus(total, times(perName, f.Names))
	total = plus(total, times(perTool, f.Tools))
	total = plus(total, times(perItem, f.Items))
	total = plus(total, times(perPrompt, f.Prompts))
	total = plus(total, times(perParam, f.Params))
	total = plus(total, times(perToolCall, f.ToolCalls))
	return plus(total, times(perToolResult, f.ToolResults))
}

// tokens is what the provider adds to a request with this framing.
func (a Allowance) tokens(f Framing) int64 {
	total := plus(a.Preamble, times(a.PerMessage, f.Messages))
	if f.Tools > 0 {
		total = plus(total, a.ToolPreamble)
	}
	return plus(total, times(a.PerTool, f.Tools))
}

// margin is n and percent of it, rounded up.
func margin(n, percent int64) int64 {
	if percent <= 0 {
		return n
	}
	// Whole hundreds and the rest are taken apart, so that only a sum too large for an int64
	// overflows.
	whole := times(n/100, percent)
	rest := plus(times(n%100, percent), 99) / 100
	return plus(n, plus(whole, rest))
}

// plus adds two counts. It stops at the largest int64; a negative count is zero.
func plus(a, b int64) int64 {
	a = max(a, 0)
	b = max(b, 0)
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// times multiplies two counts as plus adds them.
func times(a, b int64) int64 {
	if a <= 0 || b <= 0 {
		return 0
	}
	if a > math.MaxInt64/b {
		return math.MaxInt64
	}
	return a * b
}
