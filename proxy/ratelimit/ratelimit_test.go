package ratelimit

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/budgetguard/budgetguard/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m, testenv.WithLeakCheck())) }

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func connect(tb testing.TB, url string) *redis.Client {
	tb.Helper()
	options, err := redis.ParseURL(url)
	check(tb, err)
	client := redis.NewClient(options)
	tb.Cleanup(func() { check(tb, client.Close()) })
	return client
}

// connected is a Limiter that waits for Redis as long as a busy machine takes.
func connected(client *redis.Client, now func() time.Time) *Limiter {
	return NewPatient(client, now, time.Minute)
}

// ask runs the script as the limiter does, with a window of the test's own.
func ask(tb testing.TB, client *redis.Client, script *redis.Script, most int64, window time.Duration, member string) (admitted bool, left int64, reset time.Duration) {
	tb.Helper()
	answer, err := script.Run(tb.Context(), client, []string{"bg:{t}:rpm"}, most, window.Microseconds(), member).Int64Slice()
	check(tb, err)
	return answer[0] == 1, answer[1], time.Duration(answer[2]) * time.Microsecond
}

func TestNoWindowAnywhereHoldsMoreThanTheLimit(t *testing.T) {
	t.Parallel()
	const most, window = 20, 200 * time.Millisecond
	client := connect(t, testenv.Redis(t))
	script := redis.NewScript(admitLua)
	var (
		mu     sync.Mutex
		bounds [][2]time.Time // an admission happened between its two
		all    sync.WaitGroup
	)
	enough := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(bounds) >= 3*most
	}
	// Until places have come back twice, however long that takes here.
	for i := range 4 {
		all.Go(func() {
			for n := 0; !enough() && !t.Failed(); n++ {
				before := time.Now()
				admitted, left, reset := ask(t, client, script, most, window, fmt.Sprint(i, "-", n))
				after := time.Now()
				if left < 0 || left >= most || reset <= 0 || reset > window || !admitted && left != 0 {
					t.Errorf("admitted %t, %d left, reset in %s", admitted, left, reset)
				}
				if admitted {
					mu.Lock()
					bounds = append(bounds, [2]time.Time{before, after})
					mu.Unlock()
				}
			}
		})
	}
	all.Wait()
	slices.SortFunc(bounds, func(a, b [2]time.Time) int { return a[1].Compare(b[1]) })
	for i := most; i < len(bounds); i++ {
		// The first of most+1 may have been as early as any call of them began, the last as late as it ended.
		first := slices.MinFunc(bounds[i-most:i+1], func(a, b [2]time.Time) int { return a[0].Compare(b[0]) })
		if span := bounds[i][1].Sub(first[0]); span < window {
			t.Fatalf("%d admissions within %s", most+1, span)
		}
	}
}

func TestAPlaceComesBackExactlyWhenResetSays(t *testing.T) {
	t.Parallel()
	client := connect(t, testenv.Redis(t))
	script := redis.NewScript(admitLua)
	for window := 150 * time.Millisecond; ; window *= 2 {
		check(t, client.FlushDB(t.Context()).Err())
		began := time.Now()
		var left [3]int64
		for i := range left {
			_, left[i], _ = ask(t, client, script, 3, window, fmt.Sprint(i))
		}
		admitted, _, reset := ask(t, client, script, 3, window, "x")

		// A machine that took longer than the window for four calls shows nothing: a longer one, then.
		if time.Since(began) >= window {
			continue
		}
		if admitted || left != [3]int64{2, 1, 0} {
			t.Fatalf("a fourth was admitted: %t, %d left", admitted, left)
		}
		timer := time.NewTimer(reset + time.Millisecond)
		<-timer.C
		if admitted, _, _ := ask(t, client, script, 3, window, "y"); !admitted {
			t.Error("none was admitted when the oldest had left")
		}
		return
	}
}

func TestALoweredLimitHoldsAtOnce(t *testing.T) {
	t.Parallel()
	const window = 400 * time.Millisecond
	client := connect(t, testenv.Redis(t))
	script := redis.NewScript(admitLua)
	for i := range 10 {
		ask(t, client, script, 10, window, fmt.Sprint(i))
	}
	for {
		admitted, left, reset := ask(t, client, script, 2, window, "x")
		if admitted {
			break
		}
		if left != 0 || reset <= 0 || reset > window {
			t.Fatalf("%d left, reset in %s", left, reset)
		}
		timer := time.NewTimer(reset)
		<-timer.C // nine must have left, and the wait says so
	}
	used, err := client.ZCard(t.Context(), "bg:{t}:rpm").Result()
	check(t, err)
	if used > 2 {
		t.Errorf("%d count where 2 may", used)
	}
}

func TestTheLogOfATenantEndsWithItsWindow(t *testing.T) {
	t.Parallel()
	client := connect(t, testenv.Redis(t))
	l := connected(client, time.Now)
	if v := l.Admit(t.Context(), "acme", 3); !v.Admitted || v.Remaining != 2 || v.Local || v.Reset <= 59*time.Second || v.Reset > Window {
		t.Errorf("got %+v", v)
	}
	ttl, err := client.PTTL(t.Context(), "bg:{acme}:rpm").Result()
	check(t, err)
	if ttl <= 0 || ttl > Window {
		t.Errorf("the log lives for %s", ttl)
	}
}

func TestGatewaysShareOneLimitAndTenantsDoNot(t *testing.T) {
	t.Parallel()
	client := connect(t, testenv.Redis(t))
	a, b := connected(client, time.Now), connected(client, time.Now)
	var admitted atomic.Int64
	var all sync.WaitGroup
	for i := range 100 {
		l := []*Limiter{a, b}[i%2]
		all.Go(func() {
			if v := l.Admit(t.Context(), "acme", 30); v.Admitted {
				admitted.Add(1)
			} else if v.Remaining != 0 || v.Reset <= 0 || v.Reset > Window {
				t.Errorf("refused with %+v", v)
			}
		})
	}
	all.Wait()
	if n := admitted.Load(); n != 30 {
		t.Errorf("%d were admitted, want 30", n)
	}
	if v := a.Admit(t.Context(), "other", 1); !v.Admitted {
		t.Errorf("another tenant got %+v", v)
	}
}

func TestACallerThatHangsUpDoesNotMakeRedisAbsent(t *testing.T) {
	t.Parallel()
	l := connected(connect(t, testenv.Redis(t)), time.Now)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if v := l.Admit(gone, "acme", 1); v.Local || !v.Admitted {
		t.Errorf("got %+v", v)
	}
	if v := l.Admit(t.Context(), "acme", 1); v.Local || v.Admitted {
		t.Errorf("got %+v", v)
	}
}

// clock is moved by hand.
type clock struct{ nanos atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.nanos.Store(time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC).UnixNano())
	return c
}

func (c *clock) now() time.Time       { return time.Unix(0, c.nanos.Load()).UTC() }
func (c *clock) pass(d time.Duration) { c.nanos.Add(int64(d)) }

func TestWithoutRedisEachGatewayLimitsByItselfUntilItIsBack(t *testing.T) {
	t.Parallel()
	server := testenv.RedisServer(t)
	client := connect(t, server.URL())
	c := newClock()
	l := connected(client, c.now)
	if v := l.Admit(t.Context(), "acme", 2); v.Local || !v.Admitted {
		t.Fatalf("with Redis: got %+v", v)
	}
	check(t, server.StopImmediate(t.Context()))
	for i, want := range []bool{true, true, false, false} {
		if v := l.Admit(t.Context(), "acme", 2); !v.Local || v.Admitted != want {
			t.Errorf("without Redis, request %d: got %+v", i, v)
		}
	}
	check(t, server.Start(t.Context()))
	if v := l.Admit(t.Context(), "acme", 9); !v.Local {
		t.Errorf("within the pause Redis is not asked: got %+v", v)
	}
	back := Verdict{Local: true}
	for range 3000 { // the client's own connections come back in their time, within a minute
		c.pass(pause)
		if back = l.Admit(t.Context(), "fresh", 500); !back.Local {
			break
		}
		timer := time.NewTimer(20 * time.Millisecond)
		<-timer.C
	}
	if back.Local || !back.Admitted {
		t.Errorf("with Redis again: got %+v", back)
	}
}

func TestAFlushedRedisBeginsAnew(t *testing.T) {
	t.Parallel()
	client := connect(t, testenv.Redis(t))
	l := connected(client, time.Now)
	for range 2 {
		if v := l.Admit(t.Context(), "acme", 1); !v.Admitted {
			t.Errorf("got %+v", v)
		}
		if v := l.Admit(t.Context(), "acme", 1); v.Admitted {
			t.Errorf("got %+v", v)
		}
		check(t, client.FlushDB(t.Context()).Err())
		check(t, client.ScriptFlush(t.Context()).Err()) // the script is sent again
	}
}

func TestAKeyOfAnotherKindIsLikeNoRedis(t *testing.T) {
	t.Parallel()
	client := connect(t, testenv.Redis(t))
	check(t, client.Set(t.Context(), "bg:{acme}:rpm", "text", 0).Err())
	l := connected(client, time.Now)
	if v := l.Admit(t.Context(), "acme", 1); !v.Local || !v.Admitted {
		t.Errorf("got %+v", v)
	}
}

func TestTheLocalWindowHoldsAtMostTheLimitAndGivesPlacesBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		l, c := newLocal(), newClock()
		var admitted []time.Time
		limit := int64(5)
		for range rapid.IntRange(1, 200).Draw(t, "requests") {
			c.pass(time.Duration(rapid.Int64Range(0, int64(10*time.Second)).Draw(t, "pause")))
			if rapid.IntRange(0, 40).Draw(t, "change") == 0 {
				limit = rapid.Int64Range(1, 20).Draw(t, "limit")
			}
			inside := int64(0)
			for i := len(admitted) - 1; i >= 0 && c.now().Sub(admitted[i]) < Window; i-- {
				inside++
			}
			v := l.admit("acme", limit, c.now())
			if v.Admitted != (inside < limit) {
				t.Fatalf("%d of %d in the window: got %+v", inside, limit, v)
			}
			if v.Admitted {
				admitted = append(admitted, c.now())
				inside++
			}
			if v.Remaining != max(0, limit-inside) || v.Reset <= 0 || v.Reset > Window {
				t.Fatalf("%d of %d in the window: got %+v", inside, limit, v)
			}
			ahead := newLocal() // a look ahead must not change what is
			ahead.logs["acme"] = slices.Clone(l.logs["acme"])
			if !v.Admitted && ahead.admit("acme", limit, c.now().Add(v.Reset-1)).Admitted {
				t.Fatalf("admitted before the wait of %s was over", v.Reset)
			}
			if !v.Admitted && !ahead.admit("acme", limit, c.now().Add(v.Reset)).Admitted {
				t.Fatalf("not admitted after the wait of %s", v.Reset)
			}
		}
	})
}

func TestTheLocalMemoryIsBoundedAndForgetsTheIdleFirst(t *testing.T) {
	t.Parallel()
	l, c := newLocal(), newClock()
	for i := range maxLocalTenants - 2 {
		l.admit(fmt.Sprint("idle", i), 1, c.now())
	}
	c.pass(Window)
	busy := []string{"a", "b", "a", "b"}
	for i, tenant := range busy {
		if v := l.admit(tenant, 1, c.now()); v.Admitted != (i < 2) {
			t.Errorf("request %d: a full memory makes its tenants begin anew: %+v", i, v)
		}
	}
	l.admit("new", 1, c.now())
	if len(l.logs) != 3 {
		t.Errorf("%d tenants are kept, want the busy ones and the new one", len(l.logs))
	}
	for _, tenant := range busy {
		if l.admit(tenant, 1, c.now()).Admitted {
			t.Error("the busy ones begin anew where the idle ones could go")
		}
	}
	for i := range 2 * maxLocalTenants {
		l.admit(fmt.Sprint("other", i), 1, c.now())
		if len(l.logs) > maxLocalTenants {
			t.Fatalf("%d tenants are kept", len(l.logs))
		}
	}
}

func BenchmarkAdmit(b *testing.B) {
	l := connected(connect(b, testenv.Redis(b)), time.Now)
	for b.Loop() {
		l.Admit(b.Context(), "acme", 1_000_000)
	}
}
