package ratelimit

import (
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/hex"
	"errors"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
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
	// patience is the constant; tests that are about something else wait longer on a busy machine.
	patience time.Duration
	// absentUntil is when Redis is asked again, in nanoseconds since 1970; 0 while it answers.
	absentUntil atomic.Int64
	local       *local
}

// dialTimeout bounds making a connection. No request waits for it longer than its patience: the dial goes
// on beside it, and a far Redis behind TLS is there for the next one.
const dialTimeout = time.Second

// Open makes a client for New at an address of the form redis://[user:password@]host:port[/db]. Its waits
// are bounded by their contexts: go-redis leaves contexts out of its reads and writes unless it is asked to
// heed them, and waits three seconds four times instead. Errors do not repeat the address, which may hold
// a password.
func Open(url string) (*redis.Client, error) {
	options, err := redis.ParseURL(url)
	if err != nil {
		return nil, errors.New("want redis://[user:password@]host:port[/db]")
	}

	options.ContextTimeoutEnabled = true
	options.DialTimeout = dialTimeout

	// What fails is decided locally at once, so neither a dial nor a command is tried twice in one request.
	options.DialerRetries = 1
	options.MaxRetries = -1
	// A plain Redis announces no maintenance; asking for it costs each new connection a refused command.
	options.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return redis.NewClient(options), nil
}

// New makes a Limiter over a Redis client, which stays the caller's. One that Open did not make may wait
// longer than its contexts.
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
	if l.mayAsk() {
		v, err := l.ask(ctx, tenant, perMinute)
		if err == nil {
			l.absentUntil.Store(0)
			return v
		}
		l.absentUntil.Store(l.now().Add(pause).UnixNano())
	}
	v := l.local.admit(tenant, perMinute, l.now())
	v.Local = true
	return v
}

// mayAsk reports whether to ask Redis. After a failure one request in each pause finds out whether it is
// back; the others must not wait for that together.
func (l *Limiter) mayAsk() bool {
	until := l.absentUntil.Load()
	if until == 0 {
		return true
	}
	now := l.now()
	return now.UnixNano() >= until && l.absentUntil.CompareAndSwap(until, now.Add(pause).UnixNano())
}

func (l *Limiter) ask(ctx context.Context, tenant string, perMinute int64) (Verdict, error) {
	// A client that hangs up must not look like an absent Redis.
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.patience)
	defer cancel()
	member := l.process + strconv.FormatUint(l.counter.Add(1), 36)
	keys := []string{"bg:{" + tenant + "}:rpm"}
	answer, err := l.script.Run(bounded, l.client, keys, perMinute, Window.Microseconds(), member).Int64Slice()
	if err != nil {
		return Verdict{}, err
	}
	if len(answer) != 3 {
		return Verdict{}, redis.Nil
	}
	return Verdict{
		Admitted: answer[0] == 1, Remaining: answer[1], Reset: time.Duration(answer[2]) * time.Microsecond,
	}, nil
}
