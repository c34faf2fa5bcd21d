package proxy

import (
	"errors"
	"fmt"
	"mime"
	"net/http"
	"sort"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/domain/pricing"
	"github.com/budgetguard/budgetguard/proxy/provider"
	"github.com/budgetguard/budgetguard/proxy/request"
	"github.com/budgetguard/budgetguard/proxy/tokens"
)

// priced is what a request can cost at most, and how that was found.
type priced struct {
	model    *pricing.Model
	provider provider.Name // who answers
	estimate domain.Estimate
	bound    domain.Amount
	tags     map[string]string
	// demand is what the bound is made of, before overruns of earlier calls raise it.
	demand pricing.Demand
}

// nearestNames is how many known models a refusal names.
const nearestNames = 3

// read takes the body in and scans it. It is the first read of the body, so a client that waits for
// "100 Continue" uploads nothing when it is refused before.
func (x *exchange) read() error {
	kind, _, err := mime.ParseMediaType(x.r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		return unsupported("send Content-Type: application/json")
	}
	if encoding := x.r.Header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return unsupported("send the body without Content-Encoding")
	}
	if x.priced.tags, err = tagsOf(x.r.Header.Values(tagsHeader), x.who.pinned, x.who.required); err != nil {
		return err
	}
	if x.attempt, err = attemptKey(x.r.Header.Values(idempotencyHeader)); err != nil {
		return err
	}
	if x.clamp, err = wantsClamp(x.r.Header.Values(clampHeader)); err != nil {
		return err
	}
	if x.r.ContentLength > x.s.cfg.MaxBody { // refused before the upload
		return &http.MaxBytesError{Limit: x.s.cfg.MaxBody}
	}
	x.body, err = x.takeIn()
	var large *http.MaxBytesError
	var refused *problem
	switch {
	case errors.As(err, &large), errors.As(err, &refused):
		return err
	case err != nil:
		return badRequest("invalid_request", "", "the body could not be read to its end")
	}
	x.bodyRead()
	x.asked, err = request.Parse(x.route, x.body)
	return err
}

func unsupported(detail string) error {
	return &problem{status: http.StatusUnsupportedMediaType, code: "unsupported_media_type", message: "Unsupported media type", detail: detail}
}

// price finds the most the request can cost.
func (x *exchange) price() error {
	if !x.who.mayUse(x.asked.Model) {
		return &problem{
			status: http.StatusForbidden, code: "model_not_allowed", message: "Model not allowed",
			detail: "the key is not allowed this model", param: "model",
		}
	}
	model, ok := x.s.Prices.Model(x.asked.Model)
	if !ok {
		p := badRequest("model_not_priced", "model", fmt.Sprintf("there is no price for the model %.100q", x.asked.Model))
		p.nearest = x.s.Prices.Nearest(x.asked.Model, nearestNames)
		return p
	}
	if model.BillsByCall {
		return badRequest("not_estimable", "model", fmt.Sprintf("the model %s bills calls of its own beside its tokens, "+
			"which cannot be bounded; choose a model without them", model.ID))
	}
	if model.MaxOutput <= 0 {
		return badRequest("model_not_priced", "model", fmt.Sprintf("the model %s has no completions to price", model.ID))
	}
	tier, err := x.s.tierOf(x.asked.ServiceTier)
	if err != nil {
		return badRequest("model_not_priced", "service_tier", err.Error())
	}
	allowance, err := x.s.allowed.of(x.r.Context(), model.ID)
	if err != nil {
		return unavailable(err)
	}

	prompt, err := x.promptBound(model)
	if err != nil {
		return err
	}

	x.priced.model, x.priced.provider = model, provider.Of(x.s.cfg.Upstream, model.Provider)
	x.priced.demand = pricing.Demand{
		Tier: tier, At: x.started,
		Prompt:  prompt,
		Output:  model.MaxAnswer(x.asked.MaxTokens, x.asked.MaxCompletionTokens),
		Prompts: x.asked.Prompts, Answers: max(x.asked.N, x.asked.BestOf),
		Predicted: x.predicted(model), LongCacheWrite: x.asked.LongCacheWrite,
	}
	if x.asked.EchoOnly() && x.priced.provider == provider.OpenAI {
		x.priced.demand.Output = 0 // elsewhere a cap of zero may mean none
	}
	return x.hold(allowance)
}

// within is the most tokens of one answer with which the request's bound is within room, 0 for none. A
// cap that the provider was seen to ignore bounds nothing.
func (p priced) within(a pricing.Allowance, room domain.Amount) int64 {
	if a.Uncapped {
		return 0
	}
	fit := func(output int64) bool {
		p.demand.Output = output
		bound, _, err := p.most(a)
		return err == nil && bound <= room
	}
	most := p.demand.Output
	if most < 1 || !fit(1) {
		return 0
	}

	// The bound grows with the answer, so the last one that fits is found by halves.
	return int64(sort.Search(int(most), func(i int) bool { return !fit(int64(i) + 1) }))
}

// promptBound is the most tokens of input that the request can be billed.
func (x *exchange) promptBound(model *pricing.Model) (int64, error) {
	l := model.Limits
	tokens := x.s.Tokens.Bound(model.Encoding, x.asked.Texts, tokens.Framing(x.asked.Framing), x.asked.Escaped,
		tokens.Allowance{
			Preamble: l.Preamble, ToolPreamble: l.ToolPreamble, PerTool: l.PerTool, PerMessage: l.PerMessage,
			Percent: l.Percent,
		})
	for _, i := range x.asked.Images {
		each, ok := model.ImageTokens(i.Width, i.Height, i.Detail)
		if !ok {
			return 0, badRequest("not_estimable", "messages", fmt.Sprintf("how the model %s counts images is not known; "+
				"leave them out or choose another model", model.ID))
		}
		tokens += each
	}
	return tokens + x.asked.PromptTokens, nil
}

// predicted is the most tokens that a prediction can be billed as output.
func (x *exchange) predicted(model *pricing.Model) int64 {
	var sum int64
	for _, text := range x.asked.Predicted {
		sum += x.s.Tokens.Count(model.Encoding, text)
	}
	return sum
}

// hold finds the most the priced request can cost, with what earlier overruns of its model taught.
func (x *exchange) hold(a pricing.Allowance) error {
	bound, estimate, err := x.priced.most(a)
	switch {
	case errors.Is(err, pricing.ErrPrice):
		return badRequest("model_not_priced", "service_tier", err.Error())
	case err != nil:
		return badRequest("not_estimable", "", "the request could cost more than can be reserved")
	}
	x.priced.bound, x.priced.estimate = bound, estimate
	return nil
}

// most is the bound of a priced request in money and in tokens, with an allowance.
func (p priced) most(a pricing.Allowance) (domain.Amount, domain.Estimate, error) {
	d := p.demand
	d.Prompt = a.OnPrompt(d.Prompt)
	if a.Uncapped {
		d.Output = max(d.Output, p.model.MaxAnswer(nil, nil))
	}
	d.Output += a.Answer
	held, err := p.model.Hold(d)
	if err != nil {
		return 0, domain.Estimate{}, err
	}
	return a.OnCost(held), domain.Estimate{
		PromptTokens:     d.Prompt,
		CompletionTokens: (d.Output + d.Predicted) * d.Prompts * d.Answers, // Hold checked that it is no overflow
		Basis:            basisOf(p.model.Encoding),
	}, nil
}

// basisOf names how prompt tokens were bounded.
func basisOf(encoding string) string {
	if encoding == "" {
		return "utf8_bytes"
	}
	return encoding
}

// tierOf is the tier to price a request at: the one it names, or what the installation says for none.
func (s *Server) tierOf(asked string) (domain.Tier, error) {
	if asked == "" {
		return s.cfg.ServiceTier, nil
	}
	tier, err := pricing.ParseTier(asked)
	if tier == domain.TierAuto {
		return s.cfg.ServiceTier, nil
	}
	return tier, err
}
