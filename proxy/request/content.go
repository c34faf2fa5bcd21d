package request

import "strings"

// add keeps text that can be billed as input.
func (p *parser) add(text string) {
	if text != "" {
		p.r.Texts = append(p.r.Texts, text)
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
		p.r.Framing.Messages++
		return p.object(p.message)
	})
}

// message reads one field of a message.
func (p *parser) message(name string) error {
	switch name {
	case "name":
		p.r.Framing.Names++
	case "content":
		return p.content()
	}
	if media(name) {
		return p.refuse("messages")
	}
	return p.input()
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

// part reads an object that must be of a type whose price is that of its text.
func (p *parser) part() error {
	var kind string
	err := p.object(func(name string) error {
		switch {
		case name == "type":
			return p.name("messages", &kind)
		case media(name):
			return p.refuse("messages")
		}
		return p.input()
	})
	if err != nil {
		return err
	}
	switch kind {
	case "text", "refusal", "input_text", "output_text":
		return nil
	}
	return notEstimable("messages", "only text parts can be priced; images, audio and files cannot yet")
}

// media names the fields that carry or refer to what is not text, in any letter case, because some providers fold it.
func media(name string) bool {
	for _, kind := range [...]string{
		"image_url", "input_image", "image", "images", "audio", "input_audio", "audio_url",
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
		if field == "functions" {
			return p.notation(p.value)
		}
		return p.notation(p.tool)
	})
}

func (p *parser) tool() error {
	var kind string
	err := p.object(func(name string) error {
		if name == "type" {
			return p.name("tools", &kind)
		}
		return p.value()
	})
	if err != nil {
		return err
	}
	if kind != "function" && kind != "custom" {
		return notEstimable("tools", "only tools of type function and custom can be priced")
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
