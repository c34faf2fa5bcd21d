package provider

import (
	"slices"

	"github.com/budgetguard/budgetguard/domain"
)

// Figure is the meaning of a number in a usage object.
type Figure int

// The figures. All are tokens.
const (
	NoFigure Figure = iota // known, and of no use here
	Prompt
	Completion
	Total
	Cached          // read from a cache
	CacheMiss       // not read from the cache, where Cached and this together are the prompt
	CacheWrite      // written to a cache
	CacheWriteShort // the part of it that lives as long as usual
	CacheWriteLong  // the part of it that lives longer, at its own price
	AudioPrompt
	Reasoning
	AudioAnswer
	figures // how many there are
)

// place is where a part stands by the documentation of its spelling.
type place uint8

const (
	inside place             = 1 << iota // its whole includes it
	beside                               // it comes on top of its whole
	either = inside | beside             // providers use the spelling both ways
)

// Spelled finds what a name in a usage object means: the name of the object that it stands in, empty for
// the usage object itself, and its own. Known is false for a name that is not in the table.
//
// The table is the union of what providers send under OpenAI's routes (OpenAI API reference,
// CompletionUsage; Anthropic, prompt caching; DeepSeek, context caching; Moonshot, context caching;
// OpenRouter, usage accounting; LiteLLM's usage object; recorded traffic).
func Spelled(in, name string) (figure Figure, known bool) {
	switch in {
	case "":
		return spelledTop(name)
	case "prompt_tokens_details", "input_tokens_details":
		return spelledPromptPart(name)
	case "completion_tokens_details", "output_tokens_details":
		return spelledAnswerPart(name)
	case "cache_creation", "cache_creation_token_details":
		return spelledWrite(name)
	}
	return NoFigure, false
}

func spelledTop(name string) (Figure, bool) {
	switch name {
	case "prompt_tokens", "input_tokens":
		return Prompt, true
	case "completion_tokens", "output_tokens":
		return Completion, true
	case "total_tokens":
		return Total, true
	case "cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens", "num_cached_tokens":
		return Cached, true
	case "prompt_cache_miss_tokens":
		return CacheMiss, true
	case "cache_creation_input_tokens", "cache_write_tokens":
		return CacheWrite, true
	case "reasoning_tokens", "thinking_tokens":
		return Reasoning, true
	case "audio_prompt_tokens":
		return AudioPrompt, true
	case "draft_tokens", "citation_tokens":
		return NoFigure, true // guesses of a smaller model (vLLM); text of sources, inside the prompt
	}
	return NoFigure, false
}

func spelledPromptPart(name string) (Figure, bool) {
	switch name {
	case "cached_tokens", "cache_read_tokens":
		return Cached, true
	case "cache_write_tokens", "cache_creation_tokens":
		return CacheWrite, true
	case "audio_tokens":
		return AudioPrompt, true
	case "text_tokens", "image_tokens", "video_tokens", "multimodal_tokens":
		return NoFigure, true
	}
	return NoFigure, false
}

func spelledAnswerPart(name string) (Figure, bool) {
	switch name {
	case "reasoning_tokens", "thinking_tokens":
		return Reasoning, true
	case "audio_tokens":
		return AudioAnswer, true
	case "text_tokens", "image_tokens", "accepted_prediction_tokens", "rejected_prediction_tokens":
		return NoFigure, true // inside the completion: what is rejected of a prediction is billed as output
	}
	return NoFigure, false
}

func spelledWrite(name string) (Figure, bool) {
	switch name {
	case "ephemeral_5m_input_tokens":
		return CacheWriteShort, true
	case "ephemeral_1h_input_tokens":
		return CacheWriteLong, true
	}
	return NoFigure, false
}

// placed is where the part stands that a spelling names. A part in a details object of its whole is
// inside it. At the top level spellings differ by provider, and translators use Anthropic's for both.
func placed(in, name string) place {
	switch name {
	case "cache_read_input_tokens", "cache_creation_input_tokens", "cache_write_tokens",
		"ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens", "reasoning_tokens", "thinking_tokens",
		"cached_tokens", "num_cached_tokens":
		if in == "" || in == "cache_creation" {
			return either
		}
	}
	return inside
}

// Report is one usage object as it was sent. The zero Report is empty.
type Report struct {
	n     [figures]int64
	given [figures]bool
	place [figures]place
	// native reports Anthropic's own spelling of the prompt, which excludes what the cache took.
	native bool
	// Invalid reports a figure that is no whole number of tokens, or absurdly large: nothing of the
	// report can be believed.
	Invalid bool
}

// Set notes a figure under the spelling it came in. Of several spellings of one figure the largest
// counts, and the place that any of them documents as inside.
func (r *Report) Set(in, name string, n int64) {
	f, _ := Spelled(in, name)
	if f == NoFigure {
		return
	}
	where := placed(in, name)
	if r.given[f] && r.place[f] == inside {
		where = inside
	}
	r.n[f], r.given[f], r.place[f] = max(r.n[f], n, 0), true, where
	r.native = r.native || name == "input_tokens"
}

// Seen reports whether the object said anything about a prompt or an answer.
func (r Report) Seen() bool {
	return r.given[Prompt] || r.given[Completion] || r.given[Total] || r.given[Reasoning] || r.Invalid
}

// SplitsWrites reports whether the report says how long what was written to a cache lives.
func (r Report) SplitsWrites() bool { return r.given[CacheWriteShort] || r.given[CacheWriteLong] }

// Covers reports whether no figure of r is below that of another report, so that the other one adds
// nothing: providers that report more than once report sums.
func (r Report) Covers(other Report) bool {
	for f := range r.n {
		if other.n[f] > r.n[f] {
			return false
		}
	}
	return true
}

// Most is the larger of each figure of both.
func (r Report) Most(other Report) Report {
	for f := range r.n {
		r.n[f] = max(r.n[f], other.n[f])
		r.given[f] = r.given[f] || other.given[f]
		r.place[f] |= other.place[f]
	}
	r.native = r.native || other.native
	return r
}

// reading is one way to understand a report, before it is a domain.Usage.
type reading struct {
	prompt, completion            int64
	cached, write, long, audio    int64
	reasoning, spoken             int64
	cachedIn, writeIn, audioIn    bool
	reasoningIn                   bool
	documented, fits, agreesTotal bool
}

// Readings are the ways in which a report can be understood, at least one. Whoever charges takes the
// dearest.
//
// A part that is larger than its whole stands beside it. Where a reading adds up to the total, the total
// decides. Otherwise the places count that the spellings document, as far as the parts fit, and a total
// that is above what a reading explains is output that is shown nowhere else (Gemini's thinking behind
// its compatible API).
func (r Report) Readings() []domain.Usage {
	all := r.ways()
	chosen := slices.DeleteFunc(slices.Clone(all), func(w reading) bool { return !w.fits || !w.agreesTotal })
	if len(chosen) == 0 {
		chosen = slices.DeleteFunc(slices.Clone(all), func(w reading) bool { return !w.fits || !w.documented })
	}
	if len(chosen) == 0 {
		chosen = slices.DeleteFunc(all, func(w reading) bool { return !w.fits })
	}

	usages := make([]domain.Usage, 0, len(chosen))
	for _, w := range chosen {
		usages = append(usages, w.usage(r.n[Total]))
	}
	return usages
}

// ways are all placements of all parts.
func (r Report) ways() []reading {
	base := r.base()
	var all []reading
	for choice := range 1 << 4 {
		w := base
		w.cachedIn, w.writeIn = choice&1 == 0, choice&2 == 0
		w.audioIn, w.reasoningIn = choice&4 == 0, choice&8 == 0
		w.documented = r.documents(Cached, w.cachedIn) && r.documents(CacheWrite, w.writeIn) &&
			r.documents(AudioPrompt, w.audioIn) && r.documents(Reasoning, w.reasoningIn)
		w.fits = w.partsInside() <= w.prompt && (!w.reasoningIn || w.reasoning <= w.completion)
		w.agreesTotal = r.given[Total] && w.sum() == r.n[Total]
		all = append(all, w)
	}
	return all
}

// base fills in what a report leaves out and other figures tell.
func (r Report) base() reading {
	w := reading{
		prompt: r.n[Prompt], completion: r.n[Completion], cached: r.n[Cached], long: r.n[CacheWriteLong],
		audio: r.n[AudioPrompt], reasoning: r.n[Reasoning], spoken: r.n[AudioAnswer],
	}
	w.write = max(r.n[CacheWrite], r.n[CacheWriteShort]+w.long)
	switch {
	case r.given[CacheMiss]:
		w.prompt = max(w.prompt, r.n[Cached]+r.n[CacheMiss])
	case !r.given[Prompt] && r.given[Total]:
		w.prompt = max(r.n[Total]-w.completion, 0)
	}
	if !r.given[Completion] && r.given[Prompt] && r.given[Total] {
		w.completion = max(r.n[Total]-w.prompt, 0)
	}
	return w
}

// documents reports whether the spelling of a part allows a place.
func (r Report) documents(part Figure, isInside bool) bool {
	where := r.place[part]
	if part == CacheWrite && where == 0 {
		where = r.place[CacheWriteLong] | r.place[CacheWriteShort]
	}
	switch {
	case where == 0:
		where = inside
	case where == either && r.native && (part == Cached || part == CacheWrite):
		where = beside
	}
	if isInside {
		return where&inside != 0
	}
	return where&beside != 0
}

func (w reading) partsInside() int64 {
	var sum int64
	for _, part := range []struct {
		n    int64
		isIn bool
	}{{w.cached, w.cachedIn}, {w.write, w.writeIn}, {w.audio, w.audioIn}} {
		if part.isIn {
			sum += part.n
		}
	}
	return sum
}

// whole are the prompt and the answer with what stands beside them.
func (w reading) whole() (prompt, completion int64) {
	prompt = w.prompt + w.cached + w.write + w.audio - w.partsInside()
	completion = w.completion
	if !w.reasoningIn {
		completion += w.reasoning
	}
	return prompt, max(completion, w.spoken)
}

func (w reading) sum() int64 {
	prompt, completion := w.whole()
	return prompt + completion
}

func (w reading) usage(total int64) domain.Usage {
	prompt, completion := w.whole()
	return domain.Usage{
		Prompt: prompt, Cached: w.cached, CacheWrite: w.write, CacheWriteLong: w.long, AudioPrompt: w.audio,
		Completion: completion + max(total-prompt-completion, 0), Reasoning: w.reasoning, AudioAnswer: w.spoken,
	}
}
