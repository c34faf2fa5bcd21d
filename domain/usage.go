package domain

// Tier is a provider's service tier. Prices differ by it, and the answer names the one that was billed.
type Tier string

// The tiers a price can be known for. TierAuto stands for "whatever the project is set to".
const (
	TierDefault  Tier = "default"
	TierFlex     Tier = "flex"
	TierPriority Tier = "priority"
	TierAuto     Tier = "auto"
)

// Usage is the tokens of one call, as one consistent reading of what the provider said. Cached,
// written and audio tokens are inside Prompt; reasoning and audio answer tokens are inside
// Completion (OpenAI API reference, CompletionUsage). CacheWriteLong is inside CacheWrite.
type Usage struct {
	Prompt     int64 `json:"promptTokens"`
	Cached     int64 `json:"cachedTokens,omitempty"`
	CacheWrite int64 `json:"cacheWriteTokens,omitempty"`
	// CacheWriteLong are the tokens written to a cache that lives longer than the provider's usual
	// one, at a price of their own (Anthropic: one hour instead of five minutes).
	CacheWriteLong int64 `json:"cacheWriteLongTokens,omitempty"`
	AudioPrompt    int64 `json:"audioPromptTokens,omitempty"`
	Completion     int64 `json:"completionTokens"`
	Reasoning      int64 `json:"reasoningTokens,omitempty"`
	AudioAnswer    int64 `json:"audioCompletionTokens,omitempty"`
}
