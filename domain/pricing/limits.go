package pricing

import (
	"math"
	"slices"
)

// Limits are how the provider of a model bounds answers, and what it adds to prompts that no request
// shows. They come from providers' pages and recorded traffic (the catalogue names the source), with a
// margin.
type Limits struct {
	// OutputCaps are the request fields that cap an answer there; others are ignored.
	OutputCaps []string
	// Enforced reports that the provider refuses a cap above the model's maximum, so that the maximum is
	// proven. Elsewhere an answer may be as long as the context window.
	Enforced bool
	// Preamble are tokens added to every prompt, ToolPreamble those added once where tools are offered.
	Preamble, ToolPreamble int64
	// PerTool and PerMessage are tokens added for each.
	PerTool, PerMessage int64
	// Percent is a margin on the counted text.
	Percent int64
}

// The request fields that can cap an answer.
const (
	capTokens           = "max_tokens"
	capCompletionTokens = "max_completion_tokens"
)

// MaxAnswer is the most tokens that one answer can have, by the caps of a request, nil where absent.
//
// Without a cap that the provider obeys it is the model's maximum, or the context window where the
// maximum is not proven. With one it is the larger of both caps, since which of two a provider takes is
// its own affair; a cap above the maximum counts as asked, up to the context window, unless the
// provider refuses it. Where no limit is known and nothing is asked there is no bound:
// math.MaxInt64. Zero is no cap: OpenAI refuses it, and others drop it and generate the maximum.
func (m *Model) MaxAnswer(maxTokens, maxCompletionTokens *int64) int64 {
	most := m.MaxOutput
	if !m.Limits.Enforced {
		most = max(most, m.ContextWindow)
	}
	if most == 0 && !m.Limits.Enforced {
		most = math.MaxInt64 // nothing bounds it: only a free one can be held
	}

	var asked int64
	obeyed := false
	for _, field := range []struct {
		name  string
		value *int64
	}{{capTokens, maxTokens}, {capCompletionTokens, maxCompletionTokens}} {
		if field.value == nil || *field.value <= 0 {
			continue
		}
		asked = max(asked, *field.value)
		obeyed = obeyed || m.Obeys(field.name)
	}
	if !obeyed {
		return most
	}
	if !m.Limits.Enforced && m.ContextWindow == 0 {
		return asked
	}
	return min(asked, most)
}

// CapField is the request field that callers should set to bound an answer.
func (m *Model) CapField() string {
	if m.Obeys(capCompletionTokens) && (m.Reasoning || !m.Obeys(capTokens)) {
		return capCompletionTokens
	}
	return capTokens
}

// Obeys reports whether a request field caps an answer there.
func (m *Model) Obeys(field string) bool {
	return slices.Contains(m.Limits.OutputCaps, field)
}
