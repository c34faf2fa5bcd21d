package request

import "strings"

// textsMax bounds the texts that are kept apart: a body of many tiny ones would cost many times its size.
const textsMax = 1 << 16

// add keeps text that can be billed as input. What comes beyond textsMax is counted by its bytes, which
// is never less than its tokens.
func (p *parser) add(text string) {
	switch {
	case text == "":
	case len(p.r.Texts) < textsMax:
		p.r.Texts = append(p.r.Texts, text)
	default:
		p.r.PromptTokens += int64(len(text))
	}
}

// input reads a value that goes into the prompt in a form we do not know: strings as their text, the rest as JSON.
func (p *parser) input() error {
	if p.peek() == '"' {
		text, err := p.text()
		p.add(text)
		return err
	}
	return p.notation(p.value)
}

// notation reads a value with read and counts its JSON. Providers show a model schemas in notations of their own, with
// escapes resolved or kept, so the text is taken with escapes resolved and each escape and array element is an Item.
func (p *parser) notation(read func() error) error {
	start, elements, escapes := p.pos, p.elements, p.escapes
	if err := read(); err != nil {
		return err
	}
	text := p.s[start:p.pos]
	if text == "null" {
		return nil
	}
	if p.escapes > escapes {
		text = unescape(text)
	}
	p.r.Framing.Items += p.elements - elements + p.escapes - escapes
	p.add(text)
	return nil
}

func (p *parser) messages() error {
	if p.word("null") {
		return nil
	}
	if p.peek() != '[' {
		return invalid("messages", "it must be an array")
	}
	p.hasMessages = true
	return p.array(func() error {
		if p.peek() != '{' {
			return invalid("messages", "each message must be an object")
		}
		return p.oneMessage()
	})
}

// message is what must be known of a message as a whole.
type message struct{ role string }

func (p *parser) oneMessage() error {
	p.r.Framing.Messages++
	p.said = message{}
	first := len(p.r.Texts)
	if err := p.object(p.messageField); err != nil {
		return err
	}
	if p.said.role != "tool" && p.said.role != "function" {
		return nil
	}

	// The result of a tool, whose text some providers escape once more.
	p.r.Framing.ToolResults++
	for _, text := range p.r.Texts[first:] {
		p.r.Escaped += escapes(text)
	}
	return nil
}

// escapes is the number of characters that a text gains by being escaped as a JSON string.
func escapes(text string) int64 {
	var more int64
	for i := range len(text) {
		switch c := text[i]; {
		case c == '"', c == '\\', c == '\n', c == '\r', c == '\t', c == '\b', c == '\f':
			more++
		case c < 0x20:
			more += 5
		}
	}
	return more
}

// messageField reads one field of a message.
func (p *parser) messageField(name string) error {
	switch name {
	case "role":
		return p.role()
	case "name":
		p.r.Framing.Names++
	case "tool_calls":
		elements := p.elements
		err := p.input()
		p.r.Framing.ToolCalls += p.elements - elements // with their nested arrays: more, never less
		return err
	case "function_call":
		p.r.Framing.ToolCalls++
	case "content":
		return p.content()
	}
	if media(name) {
		return p.refuse("messages")
	}
	return p.input()
}

// role keeps the role and counts it as text, as all of a message.
func (p *parser) role() error {
	if p.peek() != '"' {
		return p.input()
	}
	role, err := p.text()
	p.said.role = role
	p.add(role)
	return err
}

// content reads a string, null, a part, or an array of strings and parts.
func (p *parser) content() error {
	switch p.peek() {
	case '{':
		return p.part()
	case '[':
		return p.array(func() error {
			if p.peek() == '{' {
				return p.part()
			}
			return p.input()
		})
	}
	return p.input()
}

// part reads an object that must be of a type whose price is that of its text, or a picture.
func (p *parser) part() error {
	var kind, detail string
	var picture *Image
	err := p.object(func(name string) error {
		switch {
		case name == "type":
			return p.name("messages", &kind)
		case name == "image_url":
			var err error
			picture, err = p.picture()
			return err
		case name == "detail":
			return p.name("messages", &detail)
		case name == "content": // of a tool's result
			return p.content()
		case media(name):
			return p.refuse("messages")
		}
		return p.input()
	})
	if err != nil {
		return err
	}

	switch kind {
	case "image_url", "input_image":
		if picture == nil {
			return notEstimable("messages", "a picture needs an image_url: a URL, or data in base64")
		}
		if picture.Detail == "" {
			picture.Detail = detail
		}
		p.r.Images = append(p.r.Images, *picture)
		return nil
	case "text", "refusal", "input_text", "output_text",
		// What models said or called before, sent back in a later turn (Mistral and Anthropic, thinking;
		// OpenRouter, reasoning tokens).
		"thinking", "redacted_thinking", "reasoning", "tool_use", "tool_result", "reference":
		if picture == nil {
			return nil
		}
	}
	return notEstimable("messages", "only text and pictures can be priced; leave audio, files and video out")
}

// prediction reads a predicted output: what of it does not occur is billed as output.
func (p *parser) prediction() error {
	texts := len(p.r.Texts)
	if err := p.input(); err != nil {
		return err
	}
	p.r.Predicted = append(p.r.Predicted, p.r.Texts[texts:]...)
	return nil
}

// media names the fields that carry or refer to what is not text, in any letter case, because some providers fold it.
func media(name string) bool {
	for _, kind := range [...]string{
		"image_url", "imageurl", "input_image", "image", "images", "source", "audio", "input_audio", "audio_url",
		"file", "files", "input_file", "file_id", "file_data", "video", "video_url", "videos", "document",
	} {
		if strings.EqualFold(kind, name) {
			return true
		}
	}
	return false
}

// tools reads the array of tools or of (older) functions. A tool must say that it runs at the client: the provider's own
// are billed per call.
func (p *parser) tools(field string) error {
	if p.word("null") {
		return nil
	}
	if p.peek() != '[' {
		return invalid(field, "it must be an array or null")
	}
	return p.array(func() error {
		if p.peek() != '{' {
			return invalid(field, "each element must be an object")
		}
		p.r.Framing.Tools++
		members := p.members
		read := p.tool
		if field == "functions" {
			read = p.value
		}
		err := p.notation(read)
		p.r.Framing.Params += p.members - members
		return err
	})
}

func (p *parser) tool() error {
	var kind string
	members, functions := 0, 0
	err := p.object(func(name string) error {
		members++
		switch name {
		case "type":
			return p.name("tools", &kind)
		case "function":
			functions++
		}
		return p.value()
	})
	if err != nil {
		return err
	}
	if kind == "" && functions == 1 && members == 1 {
		return nil // Mistral's default type (Mistral API reference, tools)
	}
	if kind != "function" && kind != "custom" {
		return notEstimable("tools", "only tools of type function and custom can be priced: the provider bills others by the call")
	}
	return nil
}

// modalities accepts text only.
func (p *parser) modalities() error {
	if p.word("null") {
		return nil
	}
	if p.peek() != '[' {
		return invalid("modalities", "it must be an array or null")
	}
	return p.array(func() error {
		var kind string
		if err := p.name("modalities", &kind); err != nil {
			return err
		}
		if kind != "text" {
			return notEstimable("modalities", "only text can be priced")
		}
		return nil
	})
}

// prompt reads the prompt of a completion: a string, an array of strings, tokens, or an array of arrays of tokens.
func (p *parser) prompt() error {
	switch {
	case p.word("null"):
		return nil
	case p.peek() == '"':
		p.hasPrompt = true
		p.r.Framing.Prompts = 1
		return p.input()
	case p.peek() == '[':
		p.hasPrompt = true
		return p.prompts()
	case p.peek() == '{':
		return notEstimable("prompt", "a stored prompt has input that is not in the body")
	}
	return invalid("prompt", "it must be a string or an array")
}

func (p *parser) prompts() error {
	var texts, tokens, lists int64
	err := p.array(func() error {
		switch p.peek() {
		case '"':
			texts++
			return p.input()
		case '[':
			lists++
			return p.array(p.token)
		}
		tokens++
		return p.token()
	})
	if err != nil {
		return err
	}
	p.r.Framing.Prompts = texts
	switch {
	case texts > 0 && tokens+lists == 0:
		p.r.Prompts = texts
	case lists > 0 && texts+tokens == 0:
		p.r.Prompts = lists
	case tokens > 0 && texts+lists == 0:
		p.r.Prompts = 1
	case texts+tokens+lists == 0:
		p.r.Framing.Prompts = 1 // as if absent: the provider's default prompt
	default:
		return invalid("prompt", "it must not mix text and tokens")
	}
	return nil
}

// token reads one token id; which one it is does not matter to the price.
func (p *parser) token() error {
	var id *int64
	if err := p.count("prompt", &id); err != nil {
		return err
	}
	if id == nil {
		return invalid("prompt", "a token must be a whole number")
	}
	p.r.PromptTokens++
	return nil
}
