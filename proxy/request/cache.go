package request

import "strings"

// cacheControl reads the value of a cache_control. Anthropic documents the lives 5m (the default) and
// 1h; a write of the longer one has a higher price, and any other life has none that we know.
// Its JSON is counted, as some provider may show it to the model.
func (p *parser) cacheControl() error {
	if p.peek() != '{' {
		return p.value()
	}
	return p.notation(func() error { return p.object(p.cacheField) })
}

func (p *parser) cacheField(name string) error {
	if !strings.EqualFold(name, "ttl") {
		return p.value()
	}

	var life string
	if err := p.name("cache_control", &life); err != nil {
		return err
	}
	switch life {
	case "", "5m":
	case "1h":
		p.r.LongCacheWrite = true
	default:
		return notEstimable("cache_control", "the price of this ttl is not known; use 5m or 1h")
	}
	return nil
}

// cacheOptions reads OpenAI's prompt_cache_options. Half an hour is the one life that its client library
// documents, at the usual price of a write; longer ones are dearer, by how much is not known.
func (p *parser) cacheOptions() error {
	if p.peek() != '{' {
		return p.refuse("prompt_cache_options")
	}
	return p.object(func(name string) error {
		if !strings.EqualFold(name, "ttl") {
			return p.value()
		}
		var life string
		if err := p.name("prompt_cache_options", &life); err != nil {
			return err
		}
		if life != "" && life != "30m" {
			return notEstimable("prompt_cache_options", "the price of this ttl is not known; use 30m")
		}
		return nil
	})
}

// cacheRetention reads OpenAI's prompt_cache_retention, whose documented values cost nothing more.
func (p *parser) cacheRetention() error {
	var life string
	if err := p.name("prompt_cache_retention", &life); err != nil {
		return err
	}
	switch life {
	case "", "in_memory", "in-memory", "24h":
		return nil
	}
	return notEstimable("prompt_cache_retention", "the price of this value is not known; use in_memory or 24h")
}
