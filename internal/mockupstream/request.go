package mockupstream

import (
	"encoding/json"
	"slices"
	"strings"
)

const (
	// DefaultAnswerTokens is the length of an answer that nothing shortens: long enough that a demo budget visibly
	// runs down, short enough for a benchmark.
	DefaultAnswerTokens = 190
	// legacyMaxTokens is OpenAI's default of max_tokens at /v1/completions.
	legacyMaxTokens = 16
	// maxChoices and maxBestOf are OpenAI's bounds of n and best_of.
	maxChoices = 128
	maxBestOf  = 20
	// maxCandidates bounds prompts times choices, and with it the size of one answer (2 MB).
	maxCandidates = 2048
	// maxFunctionName is OpenAI's bound on a function's name.
	maxFunctionName = 64
	// maxTokensAsked bounds max_tokens; no model answers a billion tokens.
	maxTokensAsked = 1_000_000_000
)

// request is what one call asks for, read and checked.
type request struct {
	chat         bool
	name         string // the model as asked for
	model        *model
	prompts      []prompt
	promptTokens int64 // of all prompts and tools
	choices      int64 // answers returned for each prompt
	candidates   int64 // answers billed for each prompt
	limit        int64 // tokens of one answer at most
	tool         *tool // nil: answer with text
	stream       bool
	includeUsage bool
	tier         string // as asked; "" = not named
}

// tool is a function that the answer calls: its name and the property that gets the invented text.
type tool struct{ name, property string }

// readRequest reads the body of a chat or legacy completion. Its errors are *apiError.
func (c *catalogue) readRequest(chat bool, body []byte) (*request, error) {
	o, err := readObject(body)
	if err != nil {
		return nil, err
	}
	q := &request{chat: chat}
	for _, step := range []func(object) error{c.findModel(q), q.readPrompt, q.readChoices, q.readLimit, q.readStream} {
		if err := step(o); err != nil {
			return nil, err
		}
	}
	q.tier, err = o.text("service_tier")
	return q, err
}

func (c *catalogue) findModel(q *request) func(object) error {
	return func(o object) error {
		name, err := o.text("model")
		if err != nil {
			return err
		}
		if name == "" {
			return badRequest("", "", "you must provide a model parameter")
		}
		m, known := c.byName[name]
		if !known {
			return unknownModel(name)
		}
		q.name, q.model = name, m
		return nil
	}
}

// answers is the model name of the response: the dated snapshot of an id, or the alias that was asked for.
func (q *request) answers() string {
	if q.name == q.model.id {
		return q.model.dated
	}
	return q.name
}

func (q *request) readPrompt(o object) error {
	if q.chat {
		p, fromTool, err := conversation(o)
		if err != nil {
			return err
		}
		q.prompts, q.promptTokens = []prompt{p}, p.tokens
		return q.readTools(o, fromTool)
	}
	read, err := prompts(o)
	if err != nil {
		return err
	}
	suffix, err := o.text("suffix")
	if err != nil {
		return err
	}
	q.prompts, q.promptTokens = read, words(suffix)
	for _, p := range read {
		q.promptTokens += p.tokens
	}
	return nil
}

// readTools counts the tool definitions, as they are written, into the prompt and decides which function the
// answer calls.
func (q *request) readTools(o object, fromTool bool) error {
	for _, field := range []string{"tools", "functions"} {
		if o.has(field) {
			q.promptTokens += lettered(string(o[field]))
		}
	}
	var tools []object
	if err := o.into("tools", "an array of objects", &tools); err != nil {
		return err
	}
	offered, err := functions(tools)
	if err != nil {
		return err
	}
	wanted, none, err := toolChoice(o)
	if err != nil || none || fromTool || len(offered) == 0 {
		return err
	}
	q.tool = &offered[0]
	if wanted == "" {
		return nil
	}
	i := slices.IndexFunc(offered, func(t tool) bool { return t.name == wanted })
	if i < 0 {
		return badRequest("tool_choice", codeInvalidValue, "Tool choice '%s' not found in 'tools' parameter.", wanted)
	}
	q.tool = &offered[i]
	return nil
}

func functions(tools []object) ([]tool, error) {
	var offered []tool
	for _, t := range tools {
		kind, err := t.text("type")
		if err != nil {
			return nil, err
		}
		if kind != "function" {
			continue
		}
		var function object
		if err := t.into("function", "an object", &function); err != nil {
			return nil, err
		}
		found, err := function.text("name")
		if err != nil {
			return nil, err
		}
		if !functionName(found) {
			return nil, badRequest("tools", codeInvalidValue,
				"Invalid 'tools[].function.name': expected 1 to %d letters, digits, '_' or '-'.", maxFunctionName)
		}
		offered = append(offered, tool{found, firstRequired(function["parameters"])})
	}
	return offered, nil
}

// functionName is OpenAI's own rule; it also lets the name stand in JSON as it is.
func functionName(name string) bool {
	odd := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '-'
	}
	return name != "" && len(name) <= maxFunctionName && !strings.ContainsFunc(name, odd)
}

// firstRequired is the first property that a function's schema requires, so that the call satisfies the usual
// schema of one text; "input" where none is.
func firstRequired(schema json.RawMessage) string {
	var o object
	var required []string
	if json.Unmarshal(schema, &o) == nil && o.into("required", "", &required) == nil && len(required) > 0 {
		return required[0]
	}
	return "input"
}

// toolChoice reads tool_choice: the function it names, or that none may be called.
func toolChoice(o object) (wanted string, none bool, err error) {
	if !o.has("tool_choice") {
		return "", false, nil
	}
	var mode string
	if json.Unmarshal(o["tool_choice"], &mode) == nil {
		return "", mode == "none", nil
	}
	var choice, function object
	if err := o.into("tool_choice", "a string or an object", &choice); err != nil {
		return "", false, err
	}
	if err := choice.into("function", "an object", &function); err != nil {
		return "", false, err
	}
	wanted, err = function.text("name")
	return wanted, false, err
}

func (q *request) readChoices(o object) error {
	n, err := o.integer("n", 1, maxChoices, 1)
	if err != nil {
		return err
	}
	q.choices, q.candidates = n, n
	if !q.chat {
		best, err := o.integer("best_of", 1, maxBestOf, n)
		if err != nil {
			return err
		}
		if best < n {
			return badRequest("best_of", codeInvalidValue, "Invalid 'best_of': it must not be below 'n'.")
		}
		q.candidates = best
	}
	if all := int64(len(q.prompts)) * q.candidates; all > maxCandidates {
		return badRequest("n", codeInvalidValue, "%d answers asked for; the limit is %d.", all, maxCandidates)
	}
	return nil
}

// readLimit takes the larger of max_tokens and max_completion_tokens: it is the dearest reading, so a gateway that
// reserves for the smaller is found out.
func (q *request) readLimit(o object) error {
	const absent = -1
	least, field := int64(0), "max_tokens" // max_tokens 0 is allowed at /v1/completions: it bills the prompt only
	q.limit = legacyMaxTokens
	if q.chat {
		least, q.limit = 1, DefaultAnswerTokens
	}
	asked, err := o.integer(field, least, maxTokensAsked, absent)
	if err != nil {
		return err
	}
	if q.chat {
		newer, err := o.integer("max_completion_tokens", least, maxTokensAsked, absent)
		if err != nil {
			return err
		}
		asked = max(asked, newer)
	}
	if asked != absent {
		q.limit = asked
	}
	if q.model.maxOutput > 0 {
		q.limit = min(q.limit, q.model.maxOutput)
	}
	return nil
}

func (q *request) readStream(o object) error {
	var err error
	if q.stream, err = o.flag("stream"); err != nil {
		return err
	}
	var options object
	if err := o.into("stream_options", "an object", &options); err != nil {
		return err
	}
	if options != nil && !q.stream {
		return badRequest("stream_options", codeInvalidValue,
			"The 'stream_options' parameter is only allowed when 'stream' is enabled.")
	}
	if q.stream && q.candidates > q.choices {
		return badRequest("best_of", codeInvalidValue, "A stream cannot have 'best_of' above 'n'.")
	}
	q.includeUsage, err = options.flag("include_usage")
	return err
}
