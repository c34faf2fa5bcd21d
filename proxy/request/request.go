package request

import (
	"hash/maphash"
	"strings"
	"unicode/utf8"
)

// Route is a path that [Parse] knows the body of.
type Route string

// The routes of the proxy that have a body.
const (
	RouteChat        Route = "/v1/chat/completions"
	RouteCompletions Route = "/v1/completions"
)

const (
	// modelMax bounds the model name in bytes: it ends up in events, logs and metrics. The longest real ones
	// (fine-tunes, Bedrock ARNs) stay below 200.
	modelMax = 256
	// nMax and bestOfMax are the limits of OpenAI's specification; a larger number would be refused there anyway.
	nMax, bestOfMax = 128, 20
)

// Framing counts what is billed as input without being text: each of these adds a few tokens. The fields are those of
// tokens.Framing, so that one converts to the other.
type Framing struct {
	// Messages, Names and Tools are the chat messages, those of them with a name, and the tools and functions offered.
	Messages, Names, Tools int64
	// Items are the array elements and escape sequences in JSON that providers render in a notation of their own (tool
	// schemas, tool calls): an enum value costs more there than its text does here.
	Items int64
	// Prompts are the text prompts of a completion.
	Prompts int64
	// ToolResults are the messages that bring a tool's result, ToolCalls the calls that earlier answers
	// made, and Params the members of the objects in the schemas of tools.
	ToolResults, ToolCalls, Params int64
}

// Request is what a body says about its price. It is a plain value; its strings are copies and do not alias the body.
type Request struct {
	Route Route
	Model string
	// Stream is what the client asked, and IncludeUsage whether it also asked for the usage chunk.
	Stream, IncludeUsage bool
	// MaxTokens and MaxCompletionTokens are nil where absent or null. Where both are, the model's maximum is the cap:
	// the default of 16 that OpenAI documents for completions is not relied on, because other providers have none.
	MaxTokens, MaxCompletionTokens *int64
	// N is 1 unless given; BestOf is 0 unless given.
	N, BestOf int64
	// Prompts is the number of prompts of a completion, 1 for chat.
	Prompts int64
	// PromptTokens are tokens given as numbers: known exactly, and not in Texts.
	PromptTokens int64
	// Echo says that a completion repeats its prompt: that part of the answer's text is not billed as output.
	Echo bool
	// ServiceTier is empty where absent or null.
	ServiceTier string
	// Texts is all text that can be billed as input, in the order of the body. Strings are decoded (a lone surrogate is
	// U+FFFD); nested JSON is as in the body with escapes resolved.
	Texts   []string
	Framing Framing
	// Predicted are the texts of a prediction, which can all be billed as output, too. They are in Texts as well.
	Predicted []string
	// Images are the pictures of the messages.
	Images []Image
	// Escaped is the number of characters that the results of tools would gain by being escaped as JSON
	// once more, as some providers count them.
	Escaped int64

	// LongCacheWrite reports whether a cache_control asks for the one-hour life, whose writes cost more.
	LongCacheWrite bool

	places places
}

// EchoOnly reports whether a completion gives its prompt back and generates nothing.
func (r Request) EchoOnly() bool {
	limit, capped := r.OutputCap()
	return r.Route == RouteCompletions && r.Echo && capped && limit == 0
}

// Choices is the number of answers that are generated and billed: the larger of n and best_of, for each prompt.
func (r Request) Choices() int64 {
	return r.Prompts * max(r.N, r.BestOf)
}

// OutputCap is the larger of max_tokens and max_completion_tokens, per choice; false where neither is given, and the
// model's maximum is the only cap.
func (r Request) OutputCap() (int64, bool) {
	switch {
	case r.MaxTokens == nil && r.MaxCompletionTokens == nil:
		return 0, false
	case r.MaxTokens == nil:
		return *r.MaxCompletionTokens, true
	case r.MaxCompletionTokens == nil:
		return *r.MaxTokens, true
	}
	return max(*r.MaxTokens, *r.MaxCompletionTokens), true
}

// Parse reads the body of a call to the route. It returns an [*Error] unless the body is one JSON object in valid UTF-8,
// without a byte order mark, at most 128 levels deep, in which no object has two equal names, no top-level name is a case
// variant (also by an escape) of one we act on, the model is named, and every count is null or a whole number in its
// range (1e2 and 1.0 are whole); and unless counting text bounds what it costs.
//
// Fields we do not know are forwarded and counted as input, since some provider may put them into the prompt. Parse runs in time linear
// in the body, copies it once, and is safe for concurrent use.
func Parse(route Route, body []byte) (Request, error) {
	if route != RouteChat && route != RouteCompletions {
		return Request{}, invalid("", "unknown route")
	}
	if !utf8.Valid(body) {
		return Request{}, invalid("", "the body is not valid UTF-8")
	}
	p := parser{
		scanner: scanner{s: string(body), seed: maphash.MakeSeed()},
		r:       Request{Route: route, N: 1, Prompts: 1},
	}
	p.cache = p.cacheControl
	p.space()
	if p.peek() != '{' {
		return Request{}, invalid("", "the body is not a JSON object")
	}
	p.r.places.front = p.pos + 1
	if err := p.object(p.field); err != nil {
		return Request{}, err
	}
	p.space()
	if p.pos != len(p.s) {
		return Request{}, p.fail("data after the object")
	}
	if err := p.complete(); err != nil {
		return Request{}, err
	}
	return p.r, nil
}

// parser reads the top level of the body; content.go has what is nested in it.
type parser struct {
	scanner
	r           Request
	said        message // of the message that is being read
	hasMessages bool
	hasPrompt   bool
}

// complete checks what only the whole body shows.
func (p *parser) complete() error {
	if p.r.Model == "" {
		return invalid("model", "a model is required")
	}
	if p.r.Route == RouteChat && !p.hasMessages {
		return invalid("messages", "messages are required")
	}
	if p.r.Route == RouteCompletions && !p.hasPrompt {
		p.r.Framing.Prompts = 1 // the provider's default prompt is one end-of-text token
	}
	return nil
}

// field reads the value of one top-level name.
func (p *parser) field(name string) error {
	chat := p.r.Route == RouteChat
	switch {
	case name == "prompt" && !chat:
		return p.prompt()
	case name == "prompt" && p.peek() == '{':
		return notEstimable(name, "a stored prompt has input that is not in the body")
	case name == "messages" && chat:
		return p.messages()
	}
	switch name {
	case "model":
		return p.model()
	case "stream":
		return p.flag(name, &p.r.Stream)
	case "echo":
		return p.flag(name, &p.r.Echo)
	case "stream_options":
		return p.streamOptions()
	case MaxTokensName:
		return p.outputCap(name, &p.r.MaxTokens, &p.r.places.maxTokens)
	case MaxCompletionTokensName:
		return p.outputCap(name, &p.r.MaxCompletionTokens, &p.r.places.maxCompletionTokens)
	case "n":
		return p.choices(name, nMax, &p.r.N)
	case "best_of":
		return p.choices(name, bestOfMax, &p.r.BestOf)
	case "service_tier":
		return p.name(name, &p.r.ServiceTier)
	case "tools", "functions":
		return p.tools(name)
	case "modalities":
		return p.modalities()
	case "prediction":
		return p.prediction()
	case "prompt_cache_options":
		return p.cacheOptions()
	case "prompt_cache_retention":
		return p.cacheRetention()
	case "response_format", "suffix", "messages", "prompt":
		return p.input()
	}
	return p.other(name)
}

// other reads a top-level field that is none of those above.
func (p *parser) other(name string) error {
	if unbounded(name) {
		return p.refuse(name)
	}
	if known, ok := variant(name); ok {
		return invalid(known, "the name is given in other letter case; it must be exactly "+known)
	}
	if unbilled(name) {
		return p.value()
	}
	return p.unknown(name)
}

// refuse accepts only values that switch the field off: null, false, and what is empty.
func (p *parser) refuse(name string) error {
	start := p.pos
	if err := p.value(); err != nil {
		return err
	}
	switch p.s[start:p.pos] {
	case "null", "false", "[]", `""`:
		return nil
	}
	return notEstimable(name, "its cost cannot be bounded by counting text")
}

func (p *parser) model() error {
	if p.peek() != '"' {
		return invalid("model", "it must be a string")
	}
	model, err := p.text()
	if err != nil {
		return err
	}
	if len(model) > modelMax {
		return invalid("model", "the name is too long")
	}
	p.r.Model = model
	return nil
}

// name reads a string or null.
func (p *parser) name(field string, to *string) error {
	if p.word("null") {
		return nil
	}
	if p.peek() != '"' {
		return invalid(field, "it must be a string or null")
	}
	s, err := p.text()
	*to = s
	return err
}

// flag reads a boolean or null.
func (p *parser) flag(field string, to *bool) error {
	switch {
	case p.word("null"), p.word("false"):
		*to = false
	case p.word("true"):
		*to = true
	default:
		return invalid(field, "it must be true, false or null")
	}
	return nil
}

// count reads a whole number or null.
func (p *parser) count(field string, to **int64) error {
	if p.word("null") {
		return nil
	}
	if c := p.peek(); c != '-' && (c < '0' || c > '9') {
		return invalid(field, "it must be a whole number or null")
	}
	text, err := p.number()
	if err != nil {
		return err
	}
	n, ok := integer(text)
	if !ok {
		return invalid(field, "it must be a whole number, not negative and not above 2^53")
	}
	*to = &n
	return nil
}

// choices reads a number of choices from 1 to most, or null.
func (p *parser) choices(field string, most int64, to *int64) error {
	var n *int64
	if err := p.count(field, &n); err != nil || n == nil {
		return err
	}
	if field == "best_of" && *n == 0 {
		return nil // providers take it as absent
	}
	if *n < 1 || *n > most {
		return invalid(field, "it is out of range")
	}
	*to = *n
	return nil
}

// unbounded names the top-level fields that bill what is not in the body, by their documentation: spoken answers, searches,
// earlier conversations, documents fetched by the provider, and routing to models other than the one named.
func unbounded(name string) bool {
	switch name {
	case "audio", "web_search_options", "previous_response_id", "conversation", "background",
		"data_sources", "search_parameters", "plugins", "models", "mcp_servers", "fallbacks", "web_search":
		return true
	}
	return false
}

// unbilled names the top-level fields that are known to add no input; counting them would only hold more than needed.
func unbilled(name string) bool {
	switch name {
	case "temperature", "top_p", "top_k", "min_p", "seed", "stop", "user", "store", "metadata", "logprobs", "top_logprobs",
		"logit_bias", "presence_penalty", "frequency_penalty", "repetition_penalty", "parallel_tool_calls",
		"reasoning_effort", "verbosity", "safety_identifier", "prompt_cache_key":
		return true
	}
	return false
}

// variant finds the name we act on that this one equals but for letter case.
func variant(name string) (string, bool) {
	for _, known := range [...]string{
		"model", "stream", "stream_options", "max_tokens", "max_completion_tokens", "n", "best_of", "service_tier", "echo",
		"messages", "prompt", "suffix", "tools", "functions", "response_format", "prediction", "modalities",
		"audio", "web_search_options", "prompt_cache_options", "prompt_cache_retention", "previous_response_id", "conversation", "background",
		"data_sources", "search_parameters", "plugins", "models", "mcp_servers", "fallbacks", "web_search",
	} {
		if strings.EqualFold(known, name) {
			return known, true
		}
	}
	return "", false
}
