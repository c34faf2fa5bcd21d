package request

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// The names and values of the edits.
const (
	optionsName  = "stream_options"
	usageName    = "include_usage"
	usageMember  = `"include_usage":true`
	usageObject  = `{` + usageMember + `}`
	optionsField = `"stream_options":` + usageObject + `,`

	// MaxTokensName and MaxCompletionTokensName are the fields that cap an answer.
	MaxTokensName           = "max_tokens"
	MaxCompletionTokensName = "max_completion_tokens"
)

// edit replaces the bytes of a body from start to end.
type edit struct {
	start, end int
	with       string
}

// places are where in a body the edits go.
type places struct {
	// usage makes stream_options.include_usage true where stream_options is, which hasOptions
	// reports.
	usage      edit
	hasOptions bool
	// maxTokens and maxCompletionTokens are the values of these fields, nil where the body has
	// none.
	maxTokens, maxCompletionTokens *edit
	// front is just behind the brace of the whole body.
	front int
}

// Edits are what is changed of a body on its way to the provider.
type Edits struct {
	// IncludeUsage asks a stream for its usage.
	IncludeUsage bool
	// MaxTokens and MaxCompletionTokens are written into the fields of these names, which are added
	// where the body has none; 0 leaves a field as it is.
	MaxTokens, MaxCompletionTokens int64
}

// Edit returns the body with the edits made and every other byte as it was. Body and request must
// be those of one successful [Parse]. Where there is nothing to change, which includes the usage of
// a request that does not stream or asks for it itself, the result is the very same slice;
// otherwise it is a new one.
func Edit(body []byte, r Request, e Edits) []byte {
	at := r.places
	var edits []edit
	if e.IncludeUsage && r.Stream && !r.IncludeUsage {
		edits = append(edits, at.includeUsage())
	}
	if e.MaxTokens > 0 {
		edits = append(edits, at.set(MaxTokensName, at.maxTokens, e.MaxTokens))
	}
	if e.MaxCompletionTokens > 0 {
		edits = append(edits, at.set(MaxCompletionTokensName, at.maxCompletionTokens, e.MaxCompletionTokens))
	}
	if len(edits) == 0 {
		return body
	}

	// In the order of the body, so that one pass copies what lies between them.
	slices.SortStableFunc(edits, func(a, b edit) int { return cmp.Compare(a.start, b.start) })
	grown := 0
	for _, change := range edits {
		grown += len(change.with)
	}
	edited := make([]byte, 0, len(body)+grown)
	copied := 0
	for _, change := range edits {
		edited = append(edited, body[copied:change.start]...)
		edited = append(edited, change.with...)
		copied = change.end
	}
	return append(edited, body[copied:]...)
}

func (at places) includeUsage() edit {
	if at.hasOptions {
		return at.usage
	}
	return edit{start: at.front, end: at.front, with: optionsField}
}

// set writes a number where the value of a field is, or adds the field.
func (at places) set(name string, value *edit, n int64) edit {
	text := strconv.FormatInt(n, 10)
	if value == nil {
		return edit{start: at.front, end: at.front, with: `"` + name + `":` + text + `,`}
	}
	return edit{start: value.start, end: value.end, with: text}
}

// streamOptions reads stream_options: an object with include_usage a boolean or null, or null.
func (p *parser) streamOptions() error {
	start := p.pos
	p.r.places.hasOptions = true
	if p.word("null") {
		p.r.places.usage = edit{start: start, end: p.pos, with: usageObject}
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
			return invalid(optionsName, "a name is given in other letter case; it must be exactly "+usageName)
		}
		return p.value()
	})
	if err != nil || given {
		return err
	}
	member := usageMember
	if members > 0 {
		member += ","
	}
	p.r.places.usage = edit{start: start + 1, end: start + 1, with: member}
	return nil
}

func (p *parser) includeUsage() error {
	start := p.pos
	if err := p.flag(optionsName, &p.r.IncludeUsage); err != nil {
		return err
	}
	if !p.r.IncludeUsage {
		p.r.places.usage = edit{start: start, end: p.pos, with: "true"}
	}
	return nil
}

// outputCap reads a field that caps an answer and remembers where its value is.
func (p *parser) outputCap(name string, to **int64, at **edit) error {
	start := p.pos
	if err := p.count(name, to); err != nil {
		return err
	}
	*at = &edit{start: start, end: p.pos}
	return nil
}
