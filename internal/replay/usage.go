package main

import (
	"encoding/json"
	"math/big"
	"slices"
	"strings"
)

// figures are the tokens of a usage in one reading: cached, written and spoken tokens are inside
// the prompt or the completion, and long is inside write.
type figures struct{ prompt, cached, write, long, audio, completion, spoken int64 }

// parts are the tokens of the prompt that have prices of their own.
func (f figures) parts() int64 { return f.cached + f.write + f.audio }

// counts are the numbers of a usage object by their path, such as
// prompt_tokens_details.cached_tokens.
type counts map[string]int64

// readCounts takes the whole numbers out of a usage. Providers also send them as strings, and
// null or a text where an object belongs.
func readCounts(raw json.RawMessage) counts {
	c := counts{}
	c.add("", raw)
	return c
}

func (c counts) add(prefix string, raw json.RawMessage) {
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) != nil {
		return
	}
	for name, value := range members {
		if strings.HasPrefix(string(value), "{") {
			c.add(prefix+name+".", value)
			continue
		}
		number, ok := new(big.Rat).SetString(strings.Trim(string(value), `"`))
		if ok && number.IsInt() && number.Num().IsInt64() {
			c[prefix+name] = max(number.Num().Int64(), 0)
		}
	}
}

// most is the largest of the figures that are given under any of the names.
func (c counts) most(names ...string) (n int64, given bool) {
	for _, name := range names {
		if value, ok := c[name]; ok {
			n, given = max(n, value), true
		}
	}
	return n, given
}

// readings are what a usage can mean by the providers' documentation; empty where it has no
// prompt.
//
// Parts in a details object are inside their whole (OpenAI, API reference, CompletionUsage), and
// so are hits of a cache (DeepSeek, context caching). Anthropic's cache figures and figures at
// the top level are used for both places. A part that is larger than its whole is beside it. Of
// several readings those count that add up to the total, and a total above all of them is output
// that is shown nowhere else.
func readings(raw json.RawMessage, longWrites bool) []figures {
	c := readCounts(raw)
	f := c.base(longWrites)
	if f.prompt <= 0 {
		return nil
	}
	reasoning, _ := c.most("completion_tokens_details.reasoning_tokens",
		"output_tokens_details.reasoning_tokens", "reasoning_tokens")

	all := []figures{}
	for _, where := range c.places(f) {
		r := f
		r.prompt += where
		for _, hidden := range []int64{0, reasoning} {
			if hidden == 0 && reasoning > f.completion {
				continue
			}
			r.completion = f.completion + hidden
			all = append(all, r)
		}
	}
	return c.decide(all, reasoning > f.completion)
}

// base is a usage with all its parts inside their wholes.
func (c counts) base(longWrites bool) figures {
	var f figures
	f.prompt, _ = c.most("prompt_tokens", "input_tokens")
	hit, _ := c.most("prompt_cache_hit_tokens")
	miss, missed := c.most("prompt_cache_miss_tokens")
	if missed {
		f.prompt = max(f.prompt, hit+miss)
	}
	f.completion, _ = c.most("completion_tokens", "output_tokens")
	f.cached, _ = c.most("prompt_cache_hit_tokens", "num_cached_tokens", "cached_tokens",
		"cache_read_input_tokens", "prompt_tokens_details.cached_tokens",
		"input_tokens_details.cached_tokens")
	f.write, _ = c.most("cache_creation_input_tokens", "cache_write_tokens",
		"prompt_tokens_details.cache_write_tokens",
		"prompt_tokens_details.cache_creation_tokens")
	f.audio, _ = c.most("audio_prompt_tokens", "prompt_tokens_details.audio_tokens")
	f.spoken, _ = c.most("completion_tokens_details.audio_tokens")

	// Writes that are not split live as long as the request asked for.
	short, split := c.most("cache_creation.ephemeral_5m_input_tokens")
	long, splitLong := c.most("cache_creation.ephemeral_1h_input_tokens")
	f.write = max(f.write, short+long)
	f.long = long
	if longWrites && !split && !splitLong {
		f.long = f.write
	}
	return f
}

// places are how many tokens of the prompt's parts may stand beside it.
func (c counts) places(f figures) []int64 {
	inside, insideGiven := c.most("prompt_tokens_details.cached_tokens", "prompt_cache_hit_tokens",
		"input_tokens_details.cached_tokens")
	top, _ := c.most("cache_read_input_tokens", "cache_creation_input_tokens",
		"cache_creation.ephemeral_5m_input_tokens", "cache_creation.ephemeral_1h_input_tokens",
		"cached_tokens", "num_cached_tokens")

	beside := []int64{0}
	saidInside := insideGiven && inside >= f.cached && f.write == 0
	if top > 0 && !saidInside {
		beside = []int64{0, f.cached + f.write, f.write, f.cached}
	}
	if f.parts() > f.prompt { // some of it has to be beside the prompt
		beside = []int64{f.cached + f.write, f.write, f.cached}
	}
	return slices.DeleteFunc(beside, func(n int64) bool { return f.parts()-n > f.prompt })
}

// decide keeps the readings that the total agrees with. Without any it keeps all, but for
// reasoning that fits inside the completion, which is where it is documented.
func (c counts) decide(all []figures, reasoningBeside bool) []figures {
	total, given := c.most("total_tokens")
	if given {
		agree := slices.DeleteFunc(slices.Clone(all), func(f figures) bool {
			return f.prompt+f.completion != total
		})
		if len(agree) > 0 {
			return agree
		}
	}
	if !reasoningBeside {
		completion, _ := c.most("completion_tokens", "output_tokens")
		all = slices.DeleteFunc(all, func(f figures) bool { return f.completion != completion })
	}
	for i := range all {
		all[i].completion = max(all[i].completion, total-all[i].prompt)
	}
	return all
}

// unknownFigures are the names of token counts that this command does not know, sorted.
func unknownFigures(raw json.RawMessage) []string {
	known := []string{
		"prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens",
		"cached_tokens", "num_cached_tokens", "prompt_cache_hit_tokens", "prompt_cache_miss_tokens",
		"cache_read_input_tokens", "cache_creation_input_tokens", "cache_write_tokens",
		"cache_creation_tokens", "ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens",
		"audio_tokens", "audio_prompt_tokens", "reasoning_tokens", "text_tokens", "image_tokens",
		"accepted_prediction_tokens", "rejected_prediction_tokens",
	}
	var unknown []string
	for path := range readCounts(raw) {
		name := path[strings.LastIndexByte(path, '.')+1:]
		if strings.HasSuffix(name, "_tokens") && !slices.Contains(known, name) {
			unknown = append(unknown, path)
		}
	}
	slices.Sort(unknown)
	return unknown
}
