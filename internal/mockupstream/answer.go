package mockupstream

import (
	"encoding/json"
	"fmt"
	"strings"
)

// prose is what every answer quotes from. It is plain ASCII without quotes or backslashes, so a piece of it can
// stand in JSON as it is, and has more words than an answer needs.
const prose = `
A budget is a promise about the most that can be spent. Before a request leaves, its dearest outcome is set aside.
When the answer arrives, the true cost takes the place of the estimate. What was set aside and not used goes back at once.
Nobody can spend the same dollar twice, however many ask at the same time. Every step is written down before it matters.
A ledger that is only ever extended can be read again from the start. If two sums differ, one of them is wrong and both are kept.
Prices change, so each entry remembers the price it was made with. Tokens are counted, and the count is rounded only once.
A stream may break in the middle of a word. Then the careful reading is that all of it was delivered.
An hour, a day and a month are windows over the same river. Whoever asks last sees what everyone before has taken.
Small amounts add up quietly until the limit is near. A clear refusal is kinder than a surprising invoice.
This text was invented by a machine that only pretends to think. It repeats itself gladly and charges by the piece.
Change the question and the answer starts at another sentence. Ask the same again and you will hear the same again.
Keep the key in a safe place and the limits in plain sight.
`

// toolPieces is the length of the invented argument text of a tool call, in words.
const toolPieces = 10

// script serves any run of consecutive words of the prose without copying. It is read-only once built.
type script struct {
	text   string // the prose twice, one space before each word, so that a run may pass the end
	at     []int  // where each word begins, its space included
	starts []int  // words that begin a sentence, in the first half
}

func newScript() *script {
	once := strings.Fields(prose)
	s := &script{}
	var text strings.Builder
	for i, word := range append(once, once...) {
		s.at = append(s.at, text.Len())
		if i < len(once) && (i == 0 || strings.HasSuffix(once[i-1], ".")) {
			s.starts = append(s.starts, i)
		}
		text.WriteString(" " + word)
	}
	s.at = append(s.at, text.Len())
	s.text = text.String()
	return s
}

// reply is one answer of n pieces: a mark that tells answers apart, then words of the prose; or, for a tool call,
// pieces of its arguments. Its pieces are fit to stand between the quotes of a JSON string.
type reply struct {
	script    *script
	mark      string
	start, n  int
	arguments []string
}

// reply derives the answer from the seed of its prompt and its number among the prompt's answers.
func (s *script) reply(seed uint64, choice, n int) reply {
	for range choice {
		seed = seed*6364136223846793005 + 1442695040888963407 // Knuth's MMIX generator: another answer, same every time
	}
	mark := fmt.Sprintf("mock-%08x:", seed>>32)
	return reply{script: s, mark: mark, start: s.starts[seed%uint64(len(s.starts))], n: n}
}

// call turns a reply into the arguments of a tool call, cut to at most limit pieces.
func (r reply) call(t *tool, limit int64) reply {
	words := r
	words.n = toolPieces
	name, err := json.Marshal(t.property)
	if err != nil {
		name = []byte(`"input"`) // unreachable: a string always encodes
	}
	pieces := []string{escape("{" + string(name) + `:"`)}
	for i := range words.n {
		pieces = append(pieces, words.piece(i))
	}
	pieces = append(pieces, escape(`"}`))
	r.arguments = pieces[:min(int64(len(pieces)), limit)]
	r.n = len(r.arguments)
	return r
}

// escape writes a text as the inside of a JSON string.
func escape(text string) string {
	quoted, err := json.Marshal(text)
	if err != nil {
		return "" // unreachable: a string always encodes
	}
	return string(quoted[1 : len(quoted)-1])
}

func (r reply) piece(i int) string {
	if r.arguments != nil {
		return r.arguments[i]
	}
	if i == 0 {
		return r.mark
	}
	return r.script.text[r.script.at[r.start+i-1]:r.script.at[r.start+i]]
}

func (r reply) whole() string {
	switch {
	case r.arguments != nil:
		return strings.Join(r.arguments, "")
	case r.n == 0:
		return ""
	}
	return r.mark + r.script.text[r.script.at[r.start]:r.script.at[r.start+r.n-1]]
}

// answer is everything a response says, planned before a byte of it is sent.
type answer struct {
	id         string
	created    int64
	model      string
	tier       string // "" = not shown
	chat       bool
	tool       *tool
	replies    []reply
	finish     string
	usage      []byte // JSON; nil = none
	usageChunk bool   // a stream ends with a usage chunk
}

// pieces counts the content pieces of all replies that are returned.
func (a *answer) pieces() int {
	var n int
	for _, r := range a.replies {
		n += r.n
	}
	return n
}

// plan writes the whole answer and counts the completion tokens it is billed with: those of every candidate,
// returned or not.
func (s *script) plan(q *request) (replies []reply, finish string, completion int64) {
	length := min(q.limit, DefaultAnswerTokens)
	finish = "stop"
	if q.limit < DefaultAnswerTokens {
		finish = "length"
	}
	for _, p := range q.prompts {
		for choice := range int(q.choices) {
			r := s.reply(p.seed, choice, int(length))
			if q.tool != nil {
				r = r.call(q.tool, q.limit)
				finish, length = toolFinish(r.n), int64(r.n)
			}
			replies = append(replies, r)
		}
		completion += q.candidates * length
	}
	return replies, finish, completion
}

// toolFinish tells whether a call of n pieces is whole: the name of its property, its words and its end.
func toolFinish(n int) string {
	if n < toolPieces+2 {
		return "length"
	}
	return "tool_calls"
}

// usageJSON is the usage object as OpenAI writes it, or one that nobody should believe; see the package comment.
func usageJSON(mode string, prompt, completion int64) []byte {
	switch mode {
	case UsageNone:
		return nil
	case UsageWrong:
		return []byte(`{"prompt_tokens":-7,"total_tokens":3,"prompt_tokens_details":{"cached_tokens":1000000000},` +
			`"completion_tokens_details":{"reasoning_tokens":-1}}`)
	}
	return fmt.Appendf(nil, `{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d,`+
		`"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},`+
		`"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,`+
		`"rejected_prediction_tokens":0}}`, prompt, completion, prompt+completion)
}
