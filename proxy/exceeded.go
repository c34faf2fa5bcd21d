package proxy

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/budgetguard/budgetguard/domain"
)

// fits is what a refused request could ask for instead.
type fits struct {
	// output is the most tokens of one answer that the budget has room for, 0 for none; asked are those of
	// the request, and field is the request field that lowers them.
	output, asked int64
	field         string
	// outputCost is the part of the hold that the answers make.
	outputCost domain.Amount
	// inFlight reports that the request would fit if no hold were open: it may fit later, unchanged.
	inFlight bool
}

// plainFits is the plain dialect's "fits".
type plainFits struct {
	MaxOutputTokens int64 `json:"maxOutputTokens"`
}

// budgetExceeded is the refusal of a request that has no room. It says what would fit, as far as that is
// known.
func budgetExceeded(e *domain.BudgetExceededError, f *fits) *problem {
	detail := strings.TrimPrefix(e.Error(), domain.ErrBudgetExceeded.Error()+": ")
	if e.Scope != (domain.Scope{}) {
		detail += "; it is for " + e.Scope.String()
	}
	if e.Presumed > 0 {
		detail += fmt.Sprintf("; %s of what is spent was presumed, because providers did not say what calls cost", e.Presumed)
	}
	if f != nil {
		detail += f.advice(e)
	}
	return noRetry(&problem{
		status: http.StatusPaymentRequired, code: "budget_exceeded", message: "Budget exceeded", detail: detail,
		budget: e, fits: f,
	})
}

// advice says what to do about a refusal, dearest reason first.
func (f *fits) advice(e *domain.BudgetExceededError) string {
	text := ""
	if e.Requested > e.Limit {
		text = "; the request may cost more than the whole budget"
		if f.asked > 0 {
			text += fmt.Sprintf(", %s of it for up to %d output tokens", f.outputCost, f.asked)
		}
	}
	switch {
	case f.output > 0:
		text += fmt.Sprintf("; to fit now, set %s to at most %d", f.field, f.output)
	case e.Requested <= e.Limit-e.Settled:
	case f.asked > 0:
		text += "; even an answer of one token does not fit"
	}
	if f.inFlight {
		text += "; only calls in flight stand in the way: it fits once they are done"
	}
	return text
}

// withFits adds to a refusal of the ledger what of the request would fit.
func (x *exchange) withFits(err error) error {
	var e *domain.BudgetExceededError
	if !errors.As(err, &e) || x.priced.model == nil {
		return err
	}
	d, model := x.priced.demand, x.priced.model
	room := e.Limit - e.Settled - e.Held
	f := &fits{
		asked: d.Output, field: x.capField(), inFlight: e.Held > 0 && e.Requested <= e.Limit-e.Settled,
	}

	// The hold without the answer, and the most of an answer that the room has beside it.
	a, lookupErr := x.s.allowed.of(x.r.Context(), model.ID)
	if lookupErr != nil {
		return err
	}
	within := x.priced
	within.demand.Output = 0
	if bare, _, boundErr := within.most(a); boundErr == nil {
		f.outputCost = max(x.priced.bound-bare, 0)
	}
	f.output = x.priced.within(a, room)
	return budgetExceeded(e, f)
}
