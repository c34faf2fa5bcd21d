package request

import "strings"

// The names and values of the edit.
const (
	optionsName  = "stream_options"
	usageName    = "include_usage"
	usageMember  = `"include_usage":true`
	usageObject  = `{` + usageMember + `}`
	optionsField = `"stream_options":` + usageObject + `,`
)

// options remembers where in the body stream_options.include_usage is, or belongs.
type options struct {
	// The bytes from start to end are replaced by with; nothing is when with is empty.
	start, end int
	with       string
	// insertAt is just behind the brace of the whole body; seen says that stream_options was there.
	insertAt int
	seen     bool
}

// streamOptions reads stream_options: an object with include_usage a boolean or null, or null.
func (p *parser) streamOptions() error {
	o := &p.r.options
	o.seen = true
	start := p.pos
	if p.word("null") {
		o.start, o.end, o.with = start, p.pos, usageObject
		return nil
	}
	if p.peek() != '{' {
		return invalid(optionsName, "it must be an object or null")
	}
	members, given := 0, false
	err := p.object(func(name string) error {
		members++
		if name == usageName {
			given = true
			return p.includeUsage()
		}
		if strings.EqualFold(name, usageName) {
			return invalid(optionsName, "the name is given in other letter case; it must be exactly "+usageName)
		}
		return p.value()
	})
	if err != nil || given {
		return err
	}
	o.start, o.end, o.with = start+1, start+1, usageMember
	if members > 0 {
		o.with += ","
	}
	return nil
}

func (p *parser) includeUsage() error {
	start := p.pos
	if err := p.flag(optionsName, &p.r.IncludeUsage); err != nil {
		return err
	}
	if !p.r.IncludeUsage {
		o := &p.r.options
		o.start, o.end, o.with = start, p.pos, "true"
	}
	return nil
}

// InjectIncludeUsage returns the body with stream_options.include_usage true and every other byte as it was. Body and
// request must be those of one successful [Parse]. A request that does not stream, or that asks for its usage itself, comes
// back as the very same slice; otherwise the result is a new one.
func InjectIncludeUsage(body []byte, r Request) []byte {
	if !r.Stream || r.IncludeUsage {
		return body
	}
	o := r.options
	if !o.seen {
		o.start, o.end, o.with = o.insertAt, o.insertAt, optionsField
	}
	edited := make([]byte, 0, len(body)+len(o.with))
	edited = append(edited, body[:o.start]...)
	edited = append(edited, o.with...)
	return append(edited, body[o.end:]...)
}
