package proxy

import (
	"errors"
	"strconv"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/proxy/request"
)

const (
	clampHeader = "X-BudgetGuard-Clamp"
	// clampedHeader shows the cap that the provider was sent instead of the client's.
	clampedHeader = "X-BudgetGuard-Max-Tokens"
	// clampFloor is the fewest tokens an answer is lowered to. A shorter one is hardly of use.
	clampFloor = 16
	// clampTries is how often a request is lowered: each budget may be tighter than the one before,
	// and other requests take room meanwhile.
	clampTries = 8
)

// wantsClamp reads the header that asks to lower a request rather than refuse it.
func wantsClamp(values []string) (bool, error) {
	if len(values) == 0 {
		return false, nil
	}
	wants, err := strconv.ParseBool(values[0])
	if err != nil || len(values) > 1 {
		return false, badRequest("invalid_request", "", clampHeader+": want it once, true or false")
	}
	return wants, nil
}

// clamped does a step that may find no room, and lowers the answer until there is room or nothing
// is left to lower. Without the client's leave it does the step once.
func (x *exchange) clamped(step func() error) error {
	err := step()
	for range clampTries {
		var e *domain.BudgetExceededError
		if !errors.As(err, &e) || !x.clamp || !x.lower(e.Limit-e.Settled-e.Held) {
			break
		}
		err = step()
	}
	return x.withFits(err)
}

// lower reports whether the request was made to fit into room, by a lower cap of its answers.
func (x *exchange) lower(room domain.Amount) bool {
	model := x.priced.model
	if !model.Obeys(x.capField()) {
		return false
	}
	allowance, err := x.s.allowed.of(x.r.Context(), model.ID)
	if err != nil {
		return false
	}
	most := x.priced.within(allowance, room)
	if most < clampFloor || most >= x.priced.demand.Output {
		return false
	}

	x.priced.demand.Output, x.lowered = most, most
	return x.hold(allowance) == nil
}

// capField is the request field that bounds an answer, on this route.
func (x *exchange) capField() string {
	if x.route == request.RouteCompletions {
		return request.MaxTokensName
	}
	return x.priced.model.CapField()
}

// edits are what the provider's copy of the body has of ours.
func (x *exchange) edits() request.Edits {
	e := request.Edits{IncludeUsage: x.injects()}
	if x.lowered == 0 {
		return e
	}

	// A cap that the client set is lowered where it stands, since some providers refuse both
	// fields.
	if above(x.asked.MaxTokens, x.lowered) {
		e.MaxTokens = x.lowered
	}
	if above(x.asked.MaxCompletionTokens, x.lowered) {
		e.MaxCompletionTokens = x.lowered
	}

	// Where the client set none that the provider obeys, the provider's own field is added.
	model := x.priced.model
	switch {
	case above(x.asked.MaxTokens, 0) && model.Obeys(request.MaxTokensName):
	case above(x.asked.MaxCompletionTokens, 0) && model.Obeys(request.MaxCompletionTokensName):
	case x.capField() == request.MaxCompletionTokensName:
		e.MaxCompletionTokens = x.lowered
	default:
		e.MaxTokens = x.lowered
	}
	return e
}

// above reports whether a number was given and is larger than a bound.
func above(n *int64, bound int64) bool {
	return n != nil && *n > bound
}
