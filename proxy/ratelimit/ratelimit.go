package ratelimit

import (
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/hex"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// Window is the time that a limit covers.
const Window = time.Minute

const (
	// patience bounds what Redis may add to a request; a slow Redis is treated like none.
	patience = 100 * time.Millisecond
	// pause is how long Redis is not asked again after it failed, so that its absence costs no latency.
	pause = time.Second
)

//go:embed admit.lua
var admitLua string

// Verdict is the answer to one request.
type Verdict struct {
	Admitted bool
	// Remaining is how many more are admitted now. Reset is when the oldest admission leaves the window.
	Remaining int64
	Reset     time.Duration
	// Local says that Redis did not answer and this gateway decided alone.
	Local bool
}

// Limiter admits requests. It is safe for concurrent use.
type Limiter struct {
	client  redis.UniversalClient
	script  *redis.Script
	now     func() time.Time
	process string
	counter atomic.Uint64
	// absentUntil is when Redis is asked again, in nanoseconds since 1970.
	absentUntil atomic.Int64
	patience    time.Duration
	local       *local
}

// New makes a Limiter over a Redis client, which stays the caller's.
func New(client redis.UniversalClient, now func() time.Time) *Limiter {
	return NewPatient(client, now, patience)
}

// NewPatient is New with a bound of the caller's own on what Redis may add to a request. A test of what
// gateways share needs one that a busy machine does not reach.
func NewPatient(client redis.UniversalClient, now func() time.Time, patience time.Duration) *Limiter {
	id := make([]byte, 8)
	_, _ = rand.Read(id) // never fails (crypto/rand, since Go 1.24)
	return &Limiter{
		client:   client,
		script:   redis.NewScript(admitLua),
		now:      now,
		process:  hex.EncodeToString(id),
		patience: patience,
		local:    newLocal(),
	}
}

// Admit takes one of the perMinute requests of a tenant, if one is left. It never fails: without Redis
// this gateway's own count decides.
func (l *Limiter) Admit(ctx context.Context, tenant string, perMinute int64) Verdict {
	now := l.now()
	if now.UnixNano() >= l.absentUntil.Load() {
		v, err := l.ask(ctx, tenant, perMinute)
		if err == nil {
			return v
		}
		l.absentUntil.Store(now.Add(pause).UnixNano())
	}
	v := l.local.admit(tenant, perMinute, now)
	v.Local = true
	return v
}

func (l *Limiter) ask(ctx context.Context, tenant string, perMinute int64) (Verdict, error) {
	// A client that hangs up must not look like an absent Redis.
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.patience)
	defer cancel()
	member := l.process + strconv.FormatUint(l.counter.Add(1), 36)
	answer, err := l.script.Run(bounded, l.client, []string{"bg:{" + tenant + "}:rpm"}, perMinute, Window.Microseconds(), member).Int64Slice()
	if err != nil {
		return Verdict{}, err
	}
	if len(answer) != 3 {
		return Verdict{}, redis.Nil
	}
	return Verdict{Admitted: answer[0] == 1, Remaining: answer[1], Reset: time.Duration(answer[2]) * time.Microsecond}, nil
}
