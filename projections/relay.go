package projections

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"time"

	"github.com/ThreeDotsLabs/watermill-redisstream/pkg/redisstream"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/budgetguard/budgetguard/eventstore"
)

const (
	// relayRows and relayEvents bound what is in memory at once: some megabytes of bodies.
	relayRows   = 500
	relayEvents = 1000
	// publishers is how many tenants are published at once. Watermill waits for each XADD, so one alone
	// is bound by the round trip; more than a few are bound by Redis.
	publishers = 8
	// idleLeast and idleMost bound how often an outbox without news is read, and so the delay of an event
	// that another process committed.
	idleLeast = 5 * time.Millisecond
	idleMost  = 100 * time.Millisecond
	// standBy is how often a relay that does not lead tries to, and one that does makes sure it still does.
	standBy = 500 * time.Millisecond
	// relayLock is the advisory lock of the leading relay: "bgrelay" in ASCII.
	relayLock int64 = 0x62_67_72_65_6c_61_79
)

// Outbox is what is still to be published.
type Outbox interface {
	Outbox(ctx context.Context, limit int) ([]eventstore.OutboxRow, error)
	DeleteOutbox(ctx context.Context, ids []int64) error
}

// OutboxStore is what a Relay reads.
type OutboxStore interface {
	Outbox
	Database
}

// Relay publishes events to the Redis stream: at least once, and each tenant's in order of version.
// Any number may run; one of them works and the others stand by. A leader whose database session was lost
// without its knowledge may for a moment publish beside the next one: readers see duplicates.
type Relay struct {
	cfg       Config
	store     OutboxStore
	publisher *redisstream.Publisher
	outage    outage
}

// NewRelay makes a relay. Run it once.
func NewRelay(cfg Config, store OutboxStore) (*Relay, error) {
	cfg = cfg.withDefaults()
	client, err := cfg.client()
	if err != nil {
		return nil, err
	}
	publisher, err := redisstream.NewPublisher(redisstream.PublisherConfig{
		Client: client, Marshaller: redisstream.DefaultMarshallerUnmarshaller{},
		Maxlens: map[string]int64{cfg.Stream: cfg.StreamLen},
	}, cfg.watermillLog())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make publisher: %w", err), client.Close())
	}
	return &Relay{cfg: cfg, store: store, publisher: publisher, outage: outage{log: cfg.Logger, what: "relay"}}, nil
}

// Run publishes until ctx is done. Outages of Postgres and Redis are waited out: what cannot be published
// stays in the outbox.
func (r *Relay) Run(ctx context.Context) error {
	retry := pause{least: standBy, most: 4 * standBy}
	for ctx.Err() == nil {
		if err := r.session(ctx); err != nil {
			r.outage.note(ctx, err)
		}
		retry.wait(ctx, nil)
	}
	return wrap(r.publisher.Close(), "close publisher")
}

// session leads as long as its database session lives. The lock needs a session of its own: one of the
// pool would be missing there.
func (r *Relay) session(ctx context.Context) error {
	conn, err := pgx.ConnectConfig(ctx, r.store.Pool().Config().ConnConfig.Copy())
	if err != nil {
		return fmt.Errorf("connect for the relay's lock: %w", err)
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(closing) // the lock ends with the session, however that ends
	}()
	ticker := time.NewTicker(standBy)
	defer ticker.Stop()
	for {
		var leads bool
		if err := conn.QueryRow(ctx, `select pg_try_advisory_lock($1)`, relayLock).Scan(&leads); err != nil {
			return fmt.Errorf("take the relay's lock: %w", err)
		}
		if leads {
			r.cfg.Logger.DebugContext(ctx, "relay leads", slog.String("consumer", r.cfg.Consumer))
			r.cfg.Metrics.leader.Set(1)
			defer r.cfg.Metrics.leader.Set(0)
			return r.lead(ctx, conn, ticker.C)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (r *Relay) lead(ctx context.Context, lock *pgx.Conn, check <-chan time.Time) error {
	idle := pause{least: idleLeast, most: idleMost}
	retry := pause{least: idleMost, most: 2 * time.Second}
	for ctx.Err() == nil {
		select {
		case <-check:
			if err := lock.Ping(ctx); err != nil {
				return fmt.Errorf("hold the relay's lock: %w", err)
			}
		default:
		}
		n, err := r.publish(ctx)
		r.outage.note(ctx, err)
		switch {
		case err != nil:
			retry.wait(ctx, nil)
		case n > 0:
			retry.reset()
			idle.reset()
		default:
			retry.reset()
			if !idle.wait(ctx, r.cfg.Wake) {
				return nil
			}
		}
	}
	return nil
}

// publish empties the oldest part of the outbox and says how many events it published. A failure leaves
// every row it read where it is, so that all of them are published again.
func (r *Relay) publish(ctx context.Context) (int, error) {
	rows, err := r.store.Outbox(ctx, relayRows)
	if err != nil || len(rows) == 0 {
		return 0, err
	}
	published := 0
	for _, piece := range cut(coalesce(rows), relayEvents) {
		entries, err := readRuns(ctx, r.store.Pool(), piece)
		if err != nil {
			return published, err
		}
		if err := r.send(ctx, entries); err != nil {
			return published, err
		}
		published += len(entries)
		r.cfg.Metrics.published.Add(float64(len(entries)))
	}
	ids := make([]int64, len(rows))
	for i, row := range rows {
		ids[i] = row.ID
	}
	return published, r.store.DeleteOutbox(ctx, ids)
}

// send publishes several tenants at once and each tenant's events one after the other.
func (r *Relay) send(ctx context.Context, entries []entry) error {
	var lanes [publishers][]*message.Message
	for _, e := range entries {
		hash := fnv.New32a()
		_, _ = hash.Write([]byte(e.tenant))
		lane := hash.Sum32() % publishers
		m := e.message()
		m.SetContext(ctx)
		lanes[lane] = append(lanes[lane], m)
	}
	var group errgroup.Group
	for _, messages := range lanes {
		if len(messages) > 0 {
			group.Go(func() error { return r.publisher.Publish(r.cfg.Stream, messages...) })
		}
	}
	return wrap(group.Wait(), "publish events")
}
