package provider

import (
	"net/url"
	"strings"
)

// Name is a provider as the price catalogue names it.
type Name string

// The providers with particulars of their own. Every other name is an OpenAI-compatible server of
// which nothing is known, and is taken for the most careful reading.
const (
	OpenAI     Name = "openai"
	Azure      Name = "azure"
	Anthropic  Name = "anthropic"
	Google     Name = "google"
	Mistral    Name = "mistral"
	Groq       Name = "groq"
	DeepSeek   Name = "deepseek"
	XAI        Name = "xai"
	OpenRouter Name = "openrouter"
	Moonshot   Name = "moonshot"
)

// Of names the provider that answers at a base URL. Where the host is nobody's we know, it is the one
// that the catalogue gives for the model.
func Of(base *url.URL, catalogued string) Name {
	host := strings.ToLower(base.Hostname())
	for _, known := range [...]struct {
		domain string
		name   Name
	}{
		{"api.openai.com", OpenAI},
		{"openai.azure.com", Azure},
		{"services.ai.azure.com", Azure},
		{"api.anthropic.com", Anthropic},
		{"generativelanguage.googleapis.com", Google},
		{"api.mistral.ai", Mistral},
		{"api.groq.com", Groq},
		{"api.deepseek.com", DeepSeek},
		{"api.x.ai", XAI},
		{"openrouter.ai", OpenRouter},
		{"api.moonshot.ai", Moonshot},
	} {
		if host == known.domain || strings.HasSuffix(host, "."+known.domain) {
			return known.name
		}
	}
	return Name(catalogued)
}
