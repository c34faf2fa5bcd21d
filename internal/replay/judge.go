package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/budgetguard/budgetguard/domain"
)

// judgement is what an exchange was found to be.
type judgement struct {
	// violations are what must not be.
	violations []string
	// priced reports that bound, counted and cost could be held against a recorded usage.
	priced bool
	bound  int64 // of the prompt, by the gateway
	// counted is the prompt by the provider, and cost what its usage costs, in nano-dollars.
	counted, cost int64
}

func (p *played) violate(format string, args ...any) {
	p.violations = append(p.violations, fmt.Sprintf(format, args...))
}

// judge holds an exchange against its record.
func (p *played) judge(o *oracle) {
	switch {
	case p.code != "" && p.status >= http.StatusInternalServerError:
		p.violate("refused with %d %s, which is no reason of the request's", p.status, p.code)
		return
	case p.code != "":
		return // refused, for a stated reason
	case p.reserved == nil:
		p.violate("it was answered %d, neither refused nor held: %.200s", p.status, p.body)
		return
	}
	p.judgeBytes()
	p.judgeEnd()
	p.judgeMoney(o)
}

// judgeBytes checks that both bodies went through as they were, but for a usage that only the
// gateway asked for.
func (p *played) judgeBytes() {
	if p.status != p.record.Status {
		p.violate("status %d, recorded %d", p.status, p.record.Status)
	}
	injected := p.sent != p.record.Request
	if injected && !onlyAsksUsage(p.sent, p.record.Request) {
		p.violate("the provider got another request: %s", difference(p.sent, p.record.Request))
	}
	if p.body == p.record.Response {
		return
	}
	if !injected || !onlyLacksUsage(p.body, p.record.Response) {
		p.violate("the client got another answer: %s", difference(p.body, p.record.Response))
	}
}

// judgeEnd checks that the hold is closed, and not given back for an answer that was given.
func (p *played) judgeEnd() {
	switch {
	case p.settled == nil && p.released == "":
		p.violate("its hold is still open")
	case p.settled != nil && p.released != "":
		p.violate("its hold was both charged and given back")
	case p.released != "" && p.record.Status == http.StatusOK && !failed(p.record.Response):
		p.violate("its hold was given back (%s) although the provider answered", p.released)
	}
}

// failed reports whether an answer under status 200 is an error and nothing else.
func failed(body string) bool {
	var answer map[string]json.RawMessage
	if json.Unmarshal([]byte(body), &answer) != nil {
		return false
	}
	_, chosen := answer["choices"]
	return !chosen && len(answer["error"]) > 0
}

// judgeMoney checks the hold, the prompt's bound and the charge by the recorded usage.
func (p *played) judgeMoney(o *oracle) {
	request := strings.ReplaceAll(p.record.Request, " ", "")
	longWrites := strings.Contains(request, `"ttl":"1h"`)
	all := readings(p.record.Usage, longWrites)
	if len(all) == 0 || p.record.Status != http.StatusOK {
		return
	}
	costs := p.costs(o, all)
	if len(costs) == 0 {
		return
	}
	p.priced, p.cost, p.bound = true, slices.Max(costs), p.reserved.Estimate.PromptTokens
	for _, f := range all {
		p.counted = max(p.counted, f.prompt)
	}

	if p.bound < p.counted {
		p.violate("the prompt was bounded by %d tokens, %d were counted", p.bound, p.counted)
	}
	if int64(p.reserved.Amount) < p.cost {
		p.violate("held %s of a cost of %s", p.reserved.Amount, domain.Amount(p.cost))
	}
	if p.settled == nil || !slices.Contains(costs, int64(p.settled.Charged)) {
		charged := "nothing"
		if p.settled != nil {
			charged = fmt.Sprintf("%s (%s)", p.settled.Charged, basisName(p.settled))
		}
		p.violate("charged %s, the usage %s costs %s",
			charged, compact(p.record.Usage), domain.Amount(p.cost))
	}
}

// costs are what an exchange costs when it began, and a minute before and after: the gateway may
// have read its clock on the other side of a change of price.
func (p *played) costs(o *oracle, all []figures) []int64 {
	var costs []int64
	for _, offset := range []time.Duration{0, -time.Minute, time.Minute} {
		cost, ok := o.cost(p.record, all, p.at.Add(offset))
		if ok && !slices.Contains(costs, cost) {
			costs = append(costs, cost)
		}
	}
	return costs
}

// difference shows where two texts part.
func difference(got, want string) string {
	const around = 30
	at := 0
	for at < min(len(got), len(want)) && got[at] == want[at] {
		at++
	}
	piece := func(s string) string {
		return s[min(max(at-around, 0), len(s)):min(at+around, len(s))]
	}
	return fmt.Sprintf("%q at byte %d, recorded %q", piece(got), at, piece(want))
}

func compact(raw json.RawMessage) string {
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return string(raw)
	}
	return b.String()
}
