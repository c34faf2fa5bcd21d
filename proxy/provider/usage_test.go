package provider_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/proxy/provider"
)

// figures are those of a report, by the object they stand in and their name.
type figures map[[2]string]int64

func (f figures) report() provider.Report {
	var r provider.Report
	for name, n := range f {
		r.Set(name[0], name[1], n)
	}
	return r
}

func top(name string) [2]string  { return [2]string{"", name} }
func part(name string) [2]string { return [2]string{"prompt_tokens_details", name} }

func thought(name string) [2]string { return [2]string{"completion_tokens_details", name} }

func TestAPartStandsWhereItFitsAndTheTotalDecidesWhereItAgrees(t *testing.T) {
	t.Parallel()
	for rule, c := range map[string]struct {
		said figures
		want domain.Usage // the reading with the most tokens
	}{
		"Gemini's cached tokens beside a short prompt": {
			figures{top("prompt_tokens"): 5, top("completion_tokens"): 20, top("total_tokens"): 25, part("cached_tokens"): 13710},
			domain.Usage{Prompt: 13715, Cached: 13710, Completion: 20},
		},
		"reasoning beside the completion": {
			figures{top("prompt_tokens"): 12, top("completion_tokens"): 1, thought("reasoning_tokens"): 386},
			domain.Usage{Prompt: 12, Completion: 387, Reasoning: 386},
		},
		"xAI's reasoning fits, and the total says it is beside": {
			figures{top("prompt_tokens"): 460, top("completion_tokens"): 300, top("total_tokens"): 1016, thought("reasoning_tokens"): 256},
			domain.Usage{Prompt: 460, Completion: 556, Reasoning: 256},
		},
		"OpenAI's reasoning is inside": {
			figures{top("prompt_tokens"): 10, top("completion_tokens"): 300, top("total_tokens"): 310, thought("reasoning_tokens"): 256},
			domain.Usage{Prompt: 10, Completion: 300, Reasoning: 256},
		},
		"one-hour writes beside the prompt, which the total leaves out": {
			figures{
				top("prompt_tokens"): 31, top("completion_tokens"): 467, top("total_tokens"): 498,
				top("cache_creation_input_tokens"): 1253, {"cache_creation", "ephemeral_1h_input_tokens"}: 1253,
			},
			domain.Usage{Prompt: 1284, CacheWrite: 1253, CacheWriteLong: 1253, Completion: 467},
		},
		"writes of both lives, without their sum": {
			figures{
				top("input_tokens"): 10, top("output_tokens"): 1, {"cache_creation", "ephemeral_5m_input_tokens"}: 100,
				{"cache_creation", "ephemeral_1h_input_tokens"}: 50,
			},
			domain.Usage{Prompt: 160, CacheWrite: 150, CacheWriteLong: 50, Completion: 1},
		},
		"DeepSeek's hits and misses are the prompt": {
			figures{
				top("prompt_tokens"): 1336, top("completion_tokens"): 31, top("total_tokens"): 1367,
				top("prompt_cache_hit_tokens"): 1280, top("prompt_cache_miss_tokens"): 56,
			},
			domain.Usage{Prompt: 1336, Cached: 1280, Completion: 31},
		},
		"hits and misses without a prompt": {
			figures{top("completion_tokens"): 31, top("prompt_cache_hit_tokens"): 1280, top("prompt_cache_miss_tokens"): 56},
			domain.Usage{Prompt: 1336, Cached: 1280, Completion: 31},
		},
		"a translator's reads inside the prompt, as the total says": {
			figures{top("prompt_tokens"): 100, top("completion_tokens"): 9, top("total_tokens"): 109, top("cache_read_input_tokens"): 80},
			domain.Usage{Prompt: 100, Cached: 80, Completion: 9},
		},
		"without a total a translator's reads may be beside": {
			figures{top("prompt_tokens"): 100, top("completion_tokens"): 9, top("cache_read_input_tokens"): 80},
			domain.Usage{Prompt: 180, Cached: 80, Completion: 9},
		},
		"Anthropic's input excludes its cache": {
			figures{top("input_tokens"): 100, top("output_tokens"): 9, top("cache_read_input_tokens"): 80, top("cache_creation_input_tokens"): 7},
			domain.Usage{Prompt: 187, Cached: 80, CacheWrite: 7, Completion: 9},
		},
		"the same figure under two names is one": {
			figures{top("prompt_tokens"): 100, top("completion_tokens"): 9, top("cache_read_input_tokens"): 80, part("cached_tokens"): 80},
			domain.Usage{Prompt: 100, Cached: 80, Completion: 9},
		},
		"hidden thinking is only in the total": {
			figures{top("prompt_tokens"): 10, top("completion_tokens"): 5, top("total_tokens"): 40},
			domain.Usage{Prompt: 10, Completion: 30},
		},
		"a total below its parts decides nothing": {
			figures{top("prompt_tokens"): 10, top("completion_tokens"): 5, top("total_tokens"): 3},
			domain.Usage{Prompt: 10, Completion: 5},
		},
		"no completion where nothing was generated": {
			figures{top("prompt_tokens"): 11, top("total_tokens"): 11},
			domain.Usage{Prompt: 11},
		},
	} {
		var got domain.Usage
		for i, u := range c.said.report().Readings() {
			if i == 0 || u.Prompt+u.Completion > got.Prompt+got.Completion {
				got = u
			}
		}
		if got != c.want {
			t.Errorf("%s:\n got %+v\nwant %+v", rule, got, c.want)
		}
	}
}

// anyFigures are reports of every shape, of small numbers so that they often fit and add up.
func anyFigures() *rapid.Generator[figures] {
	names := [][2]string{
		top("prompt_tokens"), top("input_tokens"), top("completion_tokens"), top("output_tokens"), top("total_tokens"),
		top("cached_tokens"), top("cache_read_input_tokens"), top("prompt_cache_hit_tokens"), top("prompt_cache_miss_tokens"),
		top("cache_creation_input_tokens"),
		{"cache_creation", "ephemeral_1h_input_tokens"},
		{"cache_creation", "ephemeral_5m_input_tokens"},
		top("reasoning_tokens"), part("cached_tokens"),
		part("cache_write_tokens"), part("audio_tokens"), thought("reasoning_tokens"), thought("audio_tokens"),
	}
	return rapid.Map(rapid.MapOfN(rapid.SampledFrom(names), rapid.Int64Range(0, 30), 1, 9),
		func(m map[[2]string]int64) figures { return m })
}

func TestNoPartIsLostInAnyReading(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		said := anyFigures().Draw(t, "usage")
		readings := said.report().Readings()
		if len(readings) == 0 {
			t.Fatal("no reading")
		}
		for _, u := range readings {
			if u.Cached+u.CacheWrite+u.AudioPrompt > u.Prompt || u.CacheWriteLong > u.CacheWrite ||
				u.Reasoning > u.Completion || u.AudioAnswer > u.Completion {
				t.Fatalf("%v reads as %+v, in which a part is larger than its whole", said, u)
			}
			kept := map[provider.Figure]int64{
				provider.Prompt: u.Prompt, provider.CacheMiss: u.Prompt, provider.Completion: u.Completion,
				provider.Cached: u.Cached, provider.CacheWrite: u.CacheWrite, provider.CacheWriteShort: u.CacheWrite, provider.CacheWriteLong: u.CacheWriteLong,
				provider.AudioPrompt: u.AudioPrompt, provider.Reasoning: u.Reasoning, provider.AudioAnswer: u.AudioAnswer,
			}
			for name, n := range said {
				f, _ := provider.Spelled(name[0], name[1])
				if got, part := kept[f]; part && got < n {
					t.Fatalf("%v reads as %+v, which loses %v", said, u, name)
				}
			}
			if u.Prompt+u.Completion < said[top("total_tokens")] {
				t.Fatalf("%v reads as %+v, below its total", said, u)
			}
		}
	})
}

func TestAReportCoversAnotherThatSaysNoMoreInAnyFigure(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := anyFigures().Draw(t, "a").report(), anyFigures().Draw(t, "b").report()
		most := a.Most(b)
		if !most.Covers(a) || !most.Covers(b) || !a.Covers(a) {
			t.Fatalf("%+v does not cover what it was made of", most)
		}
	})
}
