package provider_test

import (
	"net/url"
	"testing"

	"github.com/budgetguard/budgetguard/proxy/provider"
)

func TestTheHostNamesTheProviderAndTheCatalogueWhereItDoesNot(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		base, catalogued string
		want             provider.Name
	}{
		{"https://api.openai.com/v1", "mistral", provider.OpenAI},
		{"https://eu.api.openai.com/v1", "openai", provider.OpenAI},
		{"https://house.openai.azure.com/openai/v1", "openai", provider.Azure},
		{"https://API.Mistral.ai/v1", "openai", provider.Mistral},
		{"https://generativelanguage.googleapis.com/v1beta/openai", "google", provider.Google},
		{"http://127.0.0.1:4000/v1", "mistral", provider.Mistral},
		{"https://notapi.openai.com.example/v1", "groq", provider.Groq},
		{"http://localhost", "", ""},
	} {
		base, err := url.Parse(c.base)
		if err != nil {
			t.Fatal(err)
		}
		if got := provider.Of(base, c.catalogued); got != c.want {
			t.Errorf("%s with a model of %q: got %q, want %q", c.base, c.catalogued, got, c.want)
		}
	}
}
