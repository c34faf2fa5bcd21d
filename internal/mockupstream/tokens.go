package mockupstream

import (
	"encoding/json"
	"hash/fnv"
	"strings"
	"unicode"
)

const (
	// perMessage and perReply are OpenAI's published overheads of the chat format, in tokens.
	perMessage = 3
	perReply   = 3
	// perAttachment is billed for a part that is no text: what OpenAI bills for a large image in high detail.
	perAttachment = 765
	// maxPrompts is OpenAI's bound on a prompt array.
	maxPrompts = 2048
)

// words counts the prompt tokens of a text: its white-space separated words that hold a letter or digit, and at
// least one for a text that is not empty. The split patterns of every tiktoken vocabulary keep letters of two words
// apart, so no tokenizer can count less.
func words(text string) int64 {
	if n := lettered(text); n > 0 || text == "" {
		return n
	}
	return 1
}

func lettered(text string) int64 {
	var n int64
	counted := false
	for _, r := range text {
		switch {
		case unicode.IsSpace(r):
			counted = false
		case !counted && (unicode.IsLetter(r) || unicode.IsNumber(r)):
			n++
			counted = true
		}
	}
	return n
}

// prompt is what is billed and answered of one prompt: its tokens and the seed of its answer.
type prompt struct {
	tokens int64
	seed   uint64
}

func seedOf(text string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(text)) // a hash never fails
	return h.Sum64()
}

// conversation reads the messages of a chat. The answer follows from the last message; fromTool tells whether that
// one is a tool's result.
func conversation(o object) (p prompt, fromTool bool, err error) {
	var messages []object
	if err := o.into("messages", "an array of objects", &messages); err != nil {
		return p, false, err
	}
	if len(messages) == 0 {
		return p, false, badRequest("messages", codeInvalidValue, "Invalid 'messages': expected at least one message.")
	}
	p.tokens = perReply
	for _, m := range messages {
		text, attached, err := content(m)
		if err != nil {
			return p, false, err
		}
		calls, err := calledTools(m)
		if err != nil {
			return p, false, err
		}
		role, err := m.text("role")
		if err != nil {
			return p, false, err
		}
		if role == "" {
			return p, false, badRequest("messages", codeInvalidValue, "Missing required parameter: 'messages[].role'.")
		}
		p.tokens += perMessage + words(text) + attached*perAttachment + calls
		p.seed, fromTool = seedOf(text), role == "tool" || role == "function"
	}
	return p, fromTool, nil
}

// content joins the text parts of a message and counts its other parts.
func content(m object) (text string, attached int64, err error) {
	if !m.has("content") {
		return "", 0, nil
	}
	if json.Unmarshal(m["content"], &text) == nil {
		return text, 0, nil
	}
	var parts []object
	if err := m.into("content", "a string or an array of parts", &parts); err != nil {
		return "", 0, err
	}
	var joined strings.Builder
	for _, part := range parts {
		switch {
		case part.has("text"):
			piece, err := part.text("text")
			if err != nil {
				return "", 0, err
			}
			joined.WriteString(piece)
		case part.has("refusal"):
			piece, err := part.text("refusal")
			if err != nil {
				return "", 0, err
			}
			joined.WriteString(piece)
		default:
			attached++
		}
	}
	return joined.String(), attached, nil
}

// calledTools counts the names and arguments of the tool calls an earlier answer made.
func calledTools(m object) (int64, error) {
	var calls []object
	if err := m.into("tool_calls", "an array of objects", &calls); err != nil {
		return 0, err
	}
	var tokens int64
	for _, call := range calls {
		var function object
		if err := call.into("function", "an object", &function); err != nil {
			return 0, err
		}
		for _, field := range []string{"name", "arguments"} {
			text, err := function.text(field)
			if err != nil {
				return 0, err
			}
			tokens += words(text)
		}
	}
	return tokens, nil
}

// prompts reads the legacy prompt: a text, texts, token numbers, or arrays of those. An absent one is one empty
// prompt.
func prompts(o object) ([]prompt, error) {
	if !o.has("prompt") {
		return []prompt{{}}, nil
	}
	var items []json.RawMessage
	if json.Unmarshal(o["prompt"], &items) != nil {
		items = []json.RawMessage{o["prompt"]}
	} else if len(items) > 0 && isNumber(items[0]) {
		items = []json.RawMessage{o["prompt"]} // one prompt given as token numbers
	}
	if len(items) == 0 || len(items) > maxPrompts {
		return nil, badRequest("prompt", codeInvalidValue, "Invalid 'prompt': expected 1 to %d prompts.", maxPrompts)
	}
	read := make([]prompt, 0, len(items))
	for _, item := range items {
		p, ok := onePrompt(item)
		if !ok {
			return nil, badRequest("prompt", codeInvalidType,
				"Invalid type for 'prompt': expected a string, an array of strings, of integers, or of arrays of integers.")
		}
		read = append(read, p)
	}
	return read, nil
}

func isNumber(raw json.RawMessage) bool {
	return len(raw) > 0 && (raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9')
}

func onePrompt(raw json.RawMessage) (prompt, bool) {
	var text *string
	if json.Unmarshal(raw, &text) == nil && text != nil {
		return prompt{words(*text), seedOf(*text)}, true
	}
	var numbers []int64
	if json.Unmarshal(raw, &numbers) != nil || numbers == nil {
		return prompt{}, false
	}
	return prompt{int64(len(numbers)), seedOf(string(raw))}, true
}
