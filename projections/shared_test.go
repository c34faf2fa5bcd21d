package projections_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/budgetguard/budgetguard/internal/testenv"
	"github.com/budgetguard/budgetguard/projections"
)

// More entries come than a projector that stands still has room for. The comparison with the heads is kept
// out of the way: the other projector lives of the stream alone, and the first must notice by itself that it
// has missed something.
func TestProjectorThatStandsStillHoldsUpNoOtherAndMissesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testenv.Redis(t))
	w.cfg.Poll = time.Hour
	w.worker()
	tenant := w.tenant("a")
	w.spend(tenant, 5)
	other := w.tenant("b")
	w.converge(tenant, other)

	held, err := w.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = held.Rollback(t.Context()) }()
	if _, err := held.Exec(t.Context(), `select from projection_cursor where tenant_id = $1 for update`, tenant); err != nil {
		t.Fatal(err)
	}
	w.spend(tenant, 1)
	w.eventually("registers", func() error { return w.registersRight(tenant) })
	again, pipe := w.payloads(tenant)[0], w.redis.Pipeline()
	for range 2500 {
		pipe.XAdd(t.Context(), &redis.XAddArgs{
			Stream: projections.DefaultStream, Values: map[string]any{"_watermill_message_uuid": "x", "metadata": "", "payload": again},
		})
	}
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.consumed()
	w.spend(other, 5) // not the one the projector waits for, all of which it reads when it goes on
	w.eventually("registers while usage stands still", func() error { return w.registersRight(other) })
	if w.usageRight(tenant) == nil || w.usageRight(other) == nil {
		t.Error("usage went on")
	}
	if err := held.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.eventually("usage", func() error { return w.usageRight(tenant) })
	w.eventually("usage of the other", func() error { return w.usageRight(other) })
}

func TestWorkerReadsTheStreamOnceAndAcknowledgesAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testenv.Redis(t))
	stop := w.worker()
	tenant := w.tenant("a")
	w.spend(tenant, 10)
	w.converge(tenant)
	w.consumed()
	stop()
	groups, err := w.redis.XInfoGroups(t.Context(), projections.DefaultStream).Result()
	if err != nil || len(groups) != 1 || groups[0].Name != "projections" || groups[0].Pending != 0 || groups[0].EntriesRead != w.head(tenant) {
		t.Errorf("groups: %+v, %v; want projections alone, with %d entries read and none pending", groups, err, w.head(tenant))
	}
}
