package proxy

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/budgetguard/budgetguard/domain"
)

// heartbeat lengthens the life of a hold while its call runs, so that the reaper charges only what no gateway
// works on any more.
type heartbeat struct {
	x     *exchange
	every time.Duration

	mu    sync.Mutex
	timer *time.Timer
	over  bool
}

// keepHeld extends the hold each time two thirds of its life have passed, until it is stopped.
func (x *exchange) keepHeld() (stop func()) {
	h := &heartbeat{x: x, every: x.s.cfg.ReservationTTL * 2 / 3}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.timer = time.AfterFunc(h.every-x.s.cfg.Now().Sub(x.started), h.beat)
	return h.stop
}

func (h *heartbeat) stop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.over = true
	h.timer.Stop()
}

// again sets the timer, unless the call is over.
func (h *heartbeat) again(after time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.over {
		h.timer.Reset(after)
	}
}

func (h *heartbeat) beat() {
	s := h.x.s
	if !s.enter() { // the server is being cut, and the call with it
		return
	}
	defer s.pending.Done()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(h.x.r.Context()), reserveTimeout)
	defer cancel()
	_, err := s.Ledger.Do(ctx, h.x.who.tenant, domain.Extend{Reservation: h.x.held.reservation, TTL: s.cfg.ReservationTTL})
	switch {
	case err == nil:
		h.again(h.every)
	case errors.Is(err, domain.ErrReservationUnknown): // it was closed meanwhile
	default:
		s.log.WarnContext(ctx, "hold not extended; it is tried again", slog.String("request_id", h.x.id), slog.String("error", err.Error()))
		h.again(h.every / 8)
	}
}
