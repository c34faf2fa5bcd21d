package proxy

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/domain/pricing"
	"github.com/budgetguard/budgetguard/proxy/request"
	"github.com/budgetguard/budgetguard/proxy/tokens"
)

// priced is what a request can cost at most, and how that was found.
type priced struct {
	model    *pricing.Model
	tier     domain.Tier
	estimate domain.Estimate
	bound    domain.Amount
	tags     map[string]string
	// What the bound is made of before overruns of earlier calls raise it: the prompt's tokens, the most
	// one answer can have, and how many answers there are.
	promptBound, cap, answers int64
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
	if x.r.ContentLength > x.s.cfg.MaxBody { // refused before the upload
		return &http.MaxBytesError{Limit: x.s.cfg.MaxBody}
	}
	x.body, err = io.ReadAll(http.MaxBytesReader(x.w, x.r.Body, x.s.cfg.MaxBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
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
	if billsByCall(model.ID) {
		return badRequest("not_estimable", "model", fmt.Sprintf("the model %s bills each search it makes, beside its tokens", model.ID))
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

	x.priced.model, x.priced.tier = model, tier
	x.priced.promptBound = x.s.Tokens.Bound(model.Encoding, x.asked.Texts, tokens.Framing(x.asked.Framing)) +
		x.asked.PromptTokens
	x.priced.cap, x.priced.answers = answerCap(x.asked, model), x.asked.Choices()
	return x.hold(allowance)
}

// hold finds the most the priced request can cost, with what earlier overruns of its model taught.
func (x *exchange) hold(a pricing.Allowance) error {
	bound, estimate, err := x.priced.most(a, x.started)
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
func (p priced) most(a pricing.Allowance, at time.Time) (domain.Amount, domain.Estimate, error) {
	each := p.cap
	if a.Uncapped {
		each = max(each, p.model.MaxOutput)
	}
	estimate := domain.Estimate{
		PromptTokens:     a.OnPrompt(p.promptBound),
		CompletionTokens: (each + a.Answer) * p.answers, // both are far below 2³¹
		Basis:            basisOf(p.model.Encoding),
	}
	bound, err := p.model.Bound(p.tier, estimate.PromptTokens, estimate.CompletionTokens, at)
	if err != nil {
		return 0, domain.Estimate{}, err
	}
	return a.OnCost(bound), estimate, nil
}

// answerCap is the most tokens that one answer can have. Zero is no cap: OpenAI refuses it, and others
// drop it and generate the model's maximum.
func answerCap(asked request.Request, model *pricing.Model) int64 {
	if most, given := asked.OutputCap(); given && most > 0 {
		return min(model.MaxOutput, most)
	}
	return model.MaxOutput
}

// billsByCall tells the models that search with every request, for a fee the catalogue has no place for
// (OpenAI pricing, "web search": *-search-preview and *-search-api).
func billsByCall(id string) bool { return strings.Contains(id, "-search-") }

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
