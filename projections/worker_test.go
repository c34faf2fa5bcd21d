package projections_test

import (
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/internal/testenv"
	"github.com/budgetguard/budgetguard/projections"
)

func TestWorkerBringsRegistersAndUsageLedgerUpToDate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testenv.Redis(t))
	before := w.tenant("before")
	w.spend(before, 20)
	w.worker()
	after := w.tenant("after")
	w.spend(after, 20)
	w.converge(before, after)
}

// An outsider knows Redis and the CloudEvents specification, and nothing of us.
func TestOutsiderReadsCloudEventsInOrderOfVersion(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testenv.Redis(t))
	w.worker()
	tenants := []domain.TenantID{w.tenant("a"), w.tenant("b")}
	var spending sync.WaitGroup
	for _, tenant := range tenants {
		spending.Go(func() { w.spend(tenant, 15) })
	}
	spending.Wait()
	w.converge(tenants...)

	ctx := t.Context()
	if err := w.redis.XGroupCreateMkStream(ctx, "budgetguard.events", "finance", "0").Err(); err != nil {
		t.Fatal(err)
	}
	next := map[string]int64{}
	for {
		streams, err := w.redis.XReadGroup(ctx, &redis.XReadGroupArgs{
			Group: "finance", Consumer: "one", Streams: []string{"budgetguard.events", ">"}, Count: 50, Block: -1,
		}).Result()
		if err != nil {
			break // redis.Nil: all is read
		}
		for _, m := range streams[0].Messages {
			w.checkCloudEvent(m.Values, next)
		}
	}
	for _, tenant := range tenants {
		if got, want := next["/tenants/"+string(tenant)], w.head(tenant); got != want {
			t.Errorf("%s: read up to version %d of %d", tenant, got, want)
		}
	}
}

func (w *world) checkCloudEvent(values map[string]any, next map[string]int64) {
	w.tb.Helper()
	var e struct {
		SpecVersion, ID, Source, Type, Subject, Sequence, DataContentType string
		Time                                                              time.Time
		Data                                                              json.RawMessage
	}
	payload, _ := values["payload"].(string)
	if err := json.Unmarshal([]byte(payload), &e); err != nil {
		w.tb.Fatalf("%q: %v", payload, err)
	}
	version := next[e.Source] + 1
	if e.Sequence != fmt.Sprint(version) {
		w.tb.Errorf("%s: version %s after %d", e.Source, e.Sequence, version-1)
	}
	next[e.Source] = version
	tenant := e.Source[len("/tenants/"):]
	if e.SpecVersion != "1.0" || e.ID != tenant+":"+e.Sequence || values["_watermill_message_uuid"] != e.ID || e.DataContentType != "application/json" {
		w.tb.Errorf("attributes: %.300s", payload)
	}
	var body, kind string
	var at time.Time
	if err := w.pool.QueryRow(w.tb.Context(), `select body, type, ts from event where tenant_id = $1 and version = $2`, tenant, version).Scan(&body, &kind, &at); err != nil {
		w.tb.Fatal(err)
	}
	if string(e.Data) != body || e.Type != "budgetguard."+kind+".v1" || !e.Time.Equal(at) {
		w.tb.Errorf("event %s is %s at %s with %s; stored: %s at %s with %s", e.ID, e.Type, e.Time, e.Data, kind, at, body)
	}
}

func TestTwoWorkersAtOnceChangeNothingTwice(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testenv.Redis(t))
	w.worker()
	w.worker()
	tenants := []domain.TenantID{w.tenant("a"), w.tenant("b"), w.tenant("c")}
	var spending sync.WaitGroup
	for _, tenant := range tenants {
		spending.Go(func() { w.spend(tenant, 40) })
	}
	spending.Wait()
	w.converge(tenants...)
	total := int64(0)
	for _, tenant := range tenants {
		total += w.head(tenant)
	}
	if n := w.redis.XLen(t.Context(), "budgetguard.events").Val(); n != total {
		t.Errorf("%d entries for %d events: both relays published", n, total)
	}
}

func TestRestartedWorkerContinues(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testenv.Redis(t))
	tenant := w.tenant("a")
	for range 3 {
		stop := w.worker()
		w.spend(tenant, 10)
		stop()
		w.spend(tenant, 10)
	}
	w.worker()
	w.converge(tenant)
}

func TestFlushedRedisIsFilledAgain(t *testing.T) {
	t.Parallel()
	server := testenv.RedisServer(t)
	w := newWorld(t, server.URL())
	w.worker()
	quiet, busy := w.tenant("quiet"), w.tenant("busy")
	w.spend(quiet, 10)
	w.converge(quiet)
	spent := make(chan struct{})
	go func() {
		defer close(spent)
		for range 6 {
			w.spend(busy, 10)
		}
	}()
	for range 3 {
		if err := w.redis.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		w.eventually("registers after a flush", func() error { return w.redis.HGet(t.Context(), "bg:{quiet}:balances", "version").Err() })
	}
	<-spent
	w.converge(quiet, busy)
	w.spend(busy, 5)
	w.converge(quiet, busy)
}

func TestRedisOutageLosesNothing(t *testing.T) {
	t.Parallel()
	server := testenv.RedisServer(t)
	w := newWorld(t, server.URL())
	registers, err := projections.NewRegisters(w.cfg, w.store)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = registers.Close() }()
	w.worker()
	tenant := w.tenant("a")
	w.spend(tenant, 10)
	w.converge(tenant)

	if err := server.StopImmediate(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.spend(tenant, 20)
	w.eventually("usage without Redis", func() error { return w.usageRight(tenant) })
	balances, err := registers.Balances(t.Context(), tenant, time.Now())
	if err != nil || len(balances) != 2 || balances[0].Held+balances[0].Settled == 0 {
		t.Errorf("balances without Redis: %+v, %v", balances, err)
	}
	if n, err := w.store.OutboxDepth(t.Context()); err != nil || n == 0 {
		t.Errorf("outbox has %d rows while Redis is down, %v", n, err)
	}

	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.converge(tenant)
}

func TestWorkerStartsBeforeItsRedis(t *testing.T) {
	t.Parallel()
	server := testenv.RedisServer(t)
	w := newWorld(t, server.URL())
	if err := server.StopImmediate(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.worker()
	tenant := w.tenant("a")
	w.spend(tenant, 10)
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.converge(tenant)
}

func TestPostgresOutageIsWaitedOut(t *testing.T) {
	t.Parallel()
	server := testenv.Server(t)
	w := newWorldOn(t, server.URL(), testenv.Redis(t))
	w.worker()
	tenant := w.tenant("a")
	w.spend(tenant, 10)
	if err := server.StopImmediate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.store.OutboxDepth(t.Context()); err == nil {
		t.Error("postgres is not down")
	}
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.eventually("postgres", func() error { return w.store.Ping(t.Context()) })
	w.spend(tenant, 10)
	w.converge(tenant)
}

func TestRelayThatLostItsLockLeadsAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testenv.Redis(t))
	relay, err := projections.NewRelay(w.cfg, w.store)
	w.run(relay, err)
	tenant := w.tenant("a")
	w.eventually("published", func() error { return w.publishedTo(tenant) })
	var killed int
	if err := w.pool.QueryRow(t.Context(), `select count(pg_terminate_backend(l.pid)) from pg_locks l join pg_database d on d.oid = l.database
		where l.locktype = 'advisory' and d.datname = current_database()`).Scan(&killed); err != nil || killed != 1 {
		t.Fatalf("%d sessions ended, %v", killed, err)
	}
	w.eventually("another session leads", func() error {
		var leads int
		err := w.pool.QueryRow(t.Context(), `select count(*) from pg_locks l join pg_database d on d.oid = l.database
			where l.locktype = 'advisory' and d.datname = current_database()`).Scan(&leads)
		if err == nil && leads != 1 {
			err = fmt.Errorf("%d leaders", leads)
		}
		return err
	})
	w.spend(tenant, 5)
	w.eventually("published again", func() error { return w.publishedTo(tenant) })
}

func TestConfigurationWithoutRedisIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testenv.Redis(t))
	w.cfg.RedisURL = "postgres://user:secret@somewhere"
	if _, err := projections.NewWorker(w.cfg, w.store, w.ledger); err == nil {
		t.Error("a worker was made")
	}
}

func TestEveryKindOfBudgetIsProjected(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testenv.Redis(t))
	w.worker()
	tenant := w.tenant("a")
	w.spend(tenant, 10) // before the budgets are, and counts in them
	for _, d := range []domain.DefineBudget{
		{ID: "bud_r", Period: domain.Rolling, Span: domain.Span{Duration: domain.Length(time.Minute)}},
		{ID: "bud_d", Period: domain.Rolling, Span: domain.Span{Duration: domain.Length(24 * time.Hour)}, Scope: domain.Scope{Tag: "team=search"}},
		{ID: "bud_c", Period: domain.Custom, Span: domain.Span{StartDate: "2026-01-01", EndDate: "2097-12-31"}},
		{ID: "bud_w", Period: domain.Weekly, Span: domain.Span{WeekStart: "sunday"}, Scope: domain.Scope{Model: "gpt-4o-mini"}},
		{ID: "bud_x", Period: domain.Daily, Scope: domain.Scope{Model: "another"}},
	} {
		d.Limit, d.Source, d.Actor = 1_000_000, domain.SourceAdmin, "admin"
		w.do(tenant, d)
	}
	w.do(tenant, domain.RaiseBudget{ID: "bud_d", By: 9, Until: time.Now().Add(time.Hour), Actor: "admin"})
	w.spend(tenant, 30)
	w.converge(tenant)
	// The same once more from the tables.
	if err := w.redis.FlushDB(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	w.eventually("registers after a flush", func() error { return w.registersRight(tenant) })
}
