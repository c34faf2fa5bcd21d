package main

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/budgetguard/budgetguard/domain"
)

// kindOf is what an operation of a history is.
type kindOf int

const (
	reserving kindOf = iota
	closing
	correcting
	reading
)

// operation is one thing that somebody did to a tenant, as the model sees it.
type operation struct {
	kind   kindOf
	id     string        // of the reservation
	amount domain.Amount // reserving: asked for; closing and correcting: what settled rises by
	// corrected says that the charge of a closing is corrected later.
	corrected bool
	// refused is the outcome of a reserving that found no room.
	refused bool
	// held and settled are what a reading saw.
	held, settled domain.Amount
}

// never is the return of an operation that may take effect any time later.
const never = math.MaxInt64

// books of the model: the sums, and the reservations that are open.
type modelState struct {
	held, settled domain.Amount
	open          string // "id=amount " of each, sorted
	presumed      string // the same of those that are closed and will be corrected
}

// model is what a tenant with one budget should look like to all who use it at once: as if each operation happened at
// one instant between its call and its return. A history is one tenant's.
func model(limit domain.Amount) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return modelState{} },
		Step: func(state, input, _ any) (bool, any) {
			s, o := state.(modelState), input.(operation)
			return s.step(limit, o)
		},
		Hash: func(state any) uint64 {
			s := state.(modelState)
			h := fnv.New64a()
			_, _ = fmt.Fprintf(h, "%d %d %s|%s", s.held, s.settled, s.open, s.presumed) // never fails
			return h.Sum64()
		},
		DescribeOperation: func(input, _ any) string { return input.(operation).String() },
	}
}

func (s modelState) step(limit domain.Amount, o operation) (bool, any) {
	switch o.kind {
	case reserving:
		fits := s.held+s.settled+o.amount <= limit
		if o.refused || !fits {
			return o.refused && !fits, s
		}
		s.held += o.amount
		s.open = added(s.open, o.id, o.amount)
	case closing:
		left, amount, was := removed(s.open, o.id)
		if !was {
			return false, s
		}
		s.open, s.held, s.settled = left, s.held-amount, s.settled+o.amount
		if o.corrected {
			s.presumed = added(s.presumed, o.id, o.amount)
		}
	case correcting:
		left, _, was := removed(s.presumed, o.id)
		if !was {
			return false, s
		}
		s.presumed, s.settled = left, s.settled+o.amount
	case reading:
		return o.held == s.held && o.settled == s.settled, s
	}
	return true, s
}

func added(open, id string, amount domain.Amount) string {
	list := append(strings.Fields(open), fmt.Sprintf("%s=%d", id, amount))
	slices.Sort(list)
	return strings.Join(list, " ")
}

func removed(open, id string) (left string, amount domain.Amount, was bool) {
	list := strings.Fields(open)
	for i, entry := range list {
		if number, ok := strings.CutPrefix(entry, id+"="); ok {
			_, err := fmt.Sscan(number, &amount)
			return strings.Join(slices.Delete(list, i, i+1), " "), amount, err == nil
		}
	}
	return open, 0, false
}

// String is one line for people.
func (o operation) String() string {
	switch {
	case o.kind == reading:
		return fmt.Sprintf("read: held %s, settled %s", o.held, o.settled)
	case o.kind == closing:
		return fmt.Sprintf("close %s at %s", o.id, o.amount)
	case o.kind == correcting:
		return fmt.Sprintf("correct %s by %s", o.id, o.amount)
	case o.refused:
		return fmt.Sprintf("reserve %s: refused", o.amount)
	}
	return fmt.Sprintf("reserve %s for %s", o.amount, o.id)
}

// sorted is a history by the time of its calls.
func sorted(history []porcupine.Operation) []porcupine.Operation {
	return slices.SortedFunc(slices.Values(history), func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
}

// linearizable checks one tenant's history. Unknown means that it was not decided in time.
func linearizable(limit domain.Amount, history []porcupine.Operation, within time.Duration) porcupine.CheckResult {
	return porcupine.CheckOperationsTimeout(model(limit), history, within)
}
