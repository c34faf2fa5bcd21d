package mockupstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// The values of [Settings.Usage].
const (
	UsageOK    = "ok"
	UsageNone  = "none"
	UsageWrong = "wrong"
)

const (
	// maxLatencyMs is one hour: longer than any timeout a gateway could have.
	maxLatencyMs = 3_600_000
	// maxTokensPerSecond is where pacing ends to be one.
	maxTokensPerSecond = 1_000_000
	// maxControlBody is far above the largest sensible body of POST /control.
	maxControlBody = 1 << 16
	// millionths is the resolution of the error rate.
	millionths = 1_000_000
)

// Settings are what POST /control sets. The zero value, with Usage "ok", is a fast provider that never fails.
type Settings struct {
	// Hold accepts and bills requests and keeps their answers back until it is false again.
	Hold bool `json:"hold"`
	// LatencyMs passes before the first byte of an answer, in milliseconds.
	LatencyMs int64 `json:"latencyMs"`
	// TokensPerSecond paces the pieces of each answer; 0 sends them at once. Other answers than streams come
	// after the time their pieces take.
	TokensPerSecond float64 `json:"tokensPerSecond"`
	// ErrorRate is the share of requests answered with ErrorStatus, from 0 to 1, evenly spread: 0.25 fails every
	// fourth. Each POST begins a new count.
	ErrorRate float64 `json:"errorRate"`
	// ErrorStatus is the status of injected errors, 400 to 599.
	ErrorStatus int `json:"errorStatus"`
	// CutAfterChunks ends the connection, without a clean end, after so many content pieces of a stream; other
	// answers of at least as many pieces end in the middle of the body. 0 never cuts.
	CutAfterChunks int `json:"cutAfterChunks"`
	// Usage is [UsageOK], [UsageNone] or [UsageWrong].
	Usage string `json:"usage"`
}

func (s Settings) check() error {
	switch {
	case s.LatencyMs < 0 || s.LatencyMs > maxLatencyMs:
		return errors.New("latencyMs must be between 0 and 3600000")
	case !(s.TokensPerSecond >= 0 && s.TokensPerSecond <= maxTokensPerSecond):
		return errors.New("tokensPerSecond must be between 0 and 1000000")
	case !(s.ErrorRate >= 0 && s.ErrorRate <= 1):
		return errors.New("errorRate must be between 0 and 1")
	case s.ErrorStatus < http.StatusBadRequest || s.ErrorStatus > 599:
		return errors.New("errorStatus must be between 400 and 599")
	case s.CutAfterChunks < 0:
		return errors.New("cutAfterChunks must not be negative")
	case s.Usage != UsageOK && s.Usage != UsageNone && s.Usage != UsageWrong:
		return errors.New("usage must be ok, none or wrong")
	}
	return nil
}

// gate holds answers back until it opens. A new hold has a new gate, so nobody waits behind an opened one.
type gate struct {
	opened  chan struct{}
	waiting atomic.Int64
}

// mode is the settings in force with what belongs to them.
type mode struct {
	Settings
	gate   *gate         // nil unless Hold
	failed *atomic.Int64 // requests counted towards the error rate
}

// fails decides whether the next request gets an injected error.
func (m *mode) fails() bool {
	rate := int64(math.Round(m.ErrorRate * millionths))
	if rate == 0 {
		return false
	}
	n := m.failed.Add(1)
	return n*rate/millionths != (n-1)*rate/millionths
}

// wait holds the request at the gate and then for the latency. It is false when the client has gone.
func (m *mode) wait(ctx context.Context) bool {
	if m.gate != nil {
		m.gate.waiting.Add(1)
		defer m.gate.waiting.Add(-1)
		select {
		case <-m.gate.opened:
		case <-ctx.Done():
			return false
		}
	}
	return pause(ctx, time.Duration(m.LatencyMs)*time.Millisecond)
}

// pause waits for a span of time. It is false when the client has gone.
func pause(ctx context.Context, span time.Duration) bool {
	if span <= 0 {
		return true
	}
	timer := time.NewTimer(span)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// interval is the time one piece takes.
func (m *mode) interval() time.Duration {
	if m.TokensPerSecond == 0 {
		return 0
	}
	return time.Duration(min(float64(time.Second)/m.TokensPerSecond, float64(time.Hour)))
}

// control holds the mode in force. Reading it takes no lock.
type control struct {
	mu   sync.Mutex // one change at a time
	mode atomic.Pointer[mode]
}

func newControl() *control {
	c := &control{}
	settings := Settings{ErrorStatus: http.StatusInternalServerError, Usage: UsageOK}
	c.mode.Store(&mode{Settings: settings, failed: new(atomic.Int64)})
	return c
}

// change applies an edit of the present settings as a whole or, when it fails, not at all.
func (c *control) change(edit func(*Settings) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.mode.Load()
	after := &mode{Settings: before.Settings, gate: before.gate, failed: new(atomic.Int64)}
	if err := edit(&after.Settings); err != nil {
		return err
	}
	if err := after.check(); err != nil {
		return err
	}
	switch {
	case after.Hold && after.gate == nil:
		after.gate = &gate{opened: make(chan struct{})}
	case !after.Hold:
		after.gate = nil
	}
	c.mode.Store(after)
	if before.gate != nil && after.gate == nil {
		close(before.gate.opened)
	}
	return nil
}

// held counts the requests that wait at the gate.
func (c *control) held() int64 {
	if g := c.mode.Load().gate; g != nil {
		return g.waiting.Load()
	}
	return 0
}

// merge reads a body of POST /control over the present settings.
func merge(body io.Reader) func(*Settings) error {
	return func(s *Settings) error {
		data, err := io.ReadAll(io.LimitReader(body, maxControlBody+1))
		if err != nil {
			return err
		}
		decoder := json.NewDecoder(bytes.NewReader(data))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(s); err != nil {
			return err
		}
		if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
			return errors.New("one JSON object expected")
		}
		return nil
	}
}

// modeFor is the mode for one request: the one in force, with what its X-Mock-Error, X-Mock-Cut and X-Mock-Usage
// headers override. An X-Mock-Error status is injected for certain.
func (c *control) modeFor(h http.Header) (*mode, error) {
	present := c.mode.Load()
	status, cut, usage := h.Get("X-Mock-Error"), h.Get("X-Mock-Cut"), h.Get("X-Mock-Usage")
	if status == "" && cut == "" && usage == "" {
		return present, nil
	}
	own := *present
	own.failed = new(atomic.Int64) // one request's error does not shift the spread of the others
	var err error
	if status != "" {
		own.ErrorRate = 1
		if own.ErrorStatus, err = strconv.Atoi(status); err != nil {
			return nil, badRequest("", codeInvalidValue, "X-Mock-Error is no number")
		}
	}
	if cut != "" {
		if own.CutAfterChunks, err = strconv.Atoi(cut); err != nil {
			return nil, badRequest("", codeInvalidValue, "X-Mock-Cut is no number")
		}
	}
	if usage != "" {
		own.Usage = usage
	}
	if err := own.check(); err != nil {
		return nil, badRequest("", codeInvalidValue, "X-Mock header: %s", err)
	}
	return &own, nil
}
