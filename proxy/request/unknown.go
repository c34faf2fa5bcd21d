package request

// unknown reads a top-level field that we do not act on and counts it as input. An object that is not
// listed is refused, also within an array: it may switch on what is billed beside the tokens.
func (p *parser) unknown(name string) error {
	objects := p.objects
	if err := p.input(); err != nil {
		return err
	}
	if p.objects > objects && !harmless(name) {
		return notEstimable(name, "an unknown object may bill more than its text; leave it out")
	}
	return nil
}

// harmless names the top-level objects that bill no more than their own text as input: the choice of a
// tool, whether usage is reported, how much to think, the settings of a chat template, and how the prompt is cached.
func harmless(name string) bool {
	switch name {
	case "tool_choice", "function_call", "thinking", "reasoning", "chat_template_kwargs",
		"moderation", "cache_control", "usage":
		return true
	}
	return false
}
