package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/budgetguard/budgetguard/domain"
)

const (
	idempotencyHeader = "Idempotency-Key"
	// maxIdempotency is what the proxy accepts too, in bytes.
	maxIdempotency = 255
)

// adjustmentView is the event of an adjustment, with what it made of each balance.
type adjustmentView struct {
	ID          string               `json:"id"`
	Version     int64                `json:"version"`
	Time        time.Time            `json:"time"`
	USD         domain.Amount        `json:"usd"`
	Reason      string               `json:"reason"`
	Reservation domain.ReservationID `json:"reservationId,omitempty"`
	Postings    []domain.Posting     `json:"postings"`
}

// adjust corrects what was spent, once for each idempotency key: who asks again gets the first answer.
func (s *Server) adjust(ctx context.Context, c *call) (answer, error) {
	adjust := domain.Adjust{
		Idempotency: c.idempotencyKey(), Reason: c.body.textOrNone("reason"), Actor: actor,
		Reservation: domain.ReservationID(strings.ToLower(c.body.textOrNone("reservationId"))),
	}
	if delta := c.body.amount("usd"); delta != nil {
		adjust.Delta = *delta
	} else {
		c.body.want("usd", "want the difference in dollars, such as \"-1.25\" to give back or \"1.25\" to charge")
	}
	if adjust.Reason == "" {
		c.body.want("reason", "want a reason: it stays in the ledger")
	}
	if err := c.body.problem(); err != nil {
		return answer{}, err
	}
	events, err := s.deps.Ledger.Do(ctx, c.tenant, adjust)
	status := http.StatusCreated
	if done := (*domain.IdempotencyError)(nil); errors.Is(err, domain.ErrIdempotencyCompleted) && errors.As(err, &done) {
		status = http.StatusOK
		if events, err = s.deps.Reader.Events(ctx, c.tenant, done.Attempt.Version-1, 1); err != nil {
			return answer{}, reading("events of "+string(c.tenant), err)
		}
	}
	if err != nil {
		return answer{}, err
	}
	for _, r := range events {
		if e, ok := r.Event.(domain.UsageAdjusted); ok {
			return answer{status: status, body: adjustmentView{
				ID: fmt.Sprintf("%s:%d", c.tenant, r.Version), Version: r.Version, Time: r.Time.UTC(), USD: e.Delta,
				Reason: e.Reason, Reservation: e.Reservation, Postings: append([]domain.Posting{}, e.Postings...),
			}}, nil
		}
	}
	return answer{}, fmt.Errorf("adjust %s: the ledger recorded no adjustment", c.tenant)
}

// idempotencyKey is the request's, which must have one.
func (c *call) idempotencyKey() string {
	keys := c.header.Values(idempotencyHeader)
	visible := func(r rune) bool { return r > ' ' && r <= '~' }
	if len(keys) != 1 || keys[0] == "" || len(keys[0]) > maxIdempotency || strings.IndexFunc(keys[0], func(r rune) bool { return !visible(r) }) >= 0 {
		c.body.add(violation{Header: idempotencyHeader, Detail: fmt.Sprintf(
			"want it once, with 1 to %d visible characters: what is sent again with the same one is carried out once", maxIdempotency)})
		return ""
	}
	return keys[0]
}
