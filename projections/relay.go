package projections

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill-redisstream/pkg/redisstream"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"

	"github.com/budgetguard/budgetguard/eventstore"
)

const (
	// relayRows and relayEvents bound what is in memory at once: some megabytes of bodies.
	relayRows   = 500
	relayEvents = 1000
	// publishMost bounds what is added to the stream in one transaction of Redis, for which its other users
	// wait: about a millisecond.
	publishMost = 250
	// relayLinger is how long a relay that has just published lets the outbox fill, so that one reading,
	// publishing and deleting serves many appends. It delays an event by at most as much, and one that comes
	// after a silence not at all.
	relayLinger = 10 * time.Millisecond
	// deleteWithin bounds the deletion of what was published, which is tried at the end too.
	deleteWithin = time.Second
	// idleLeast and idleMost bound how often an outbox without news is read, and so the delay of an event
	// that another process committed.
	idleLeast = 10 * time.Millisecond
	idleMost  = 100 * time.Millisecond
	// standBy is how often a relay that does not lead tries to, and one that does makes sure it still does.
	standBy = 500 * time.Millisecond
	// relayLock is the advisory lock of the leading relay: "bgrelay" in ASCII.
	relayLock int64 = 0x62_67_72_65_6c_61_79
)

// Outbox is what is still to be published.
type Outbox interface {
	Outbox(ctx context.Context, limit int) ([]eventstore.OutboxRow, error)
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
	writer    *bulkWriter // the publisher's client
	outage    outage
}

// NewRelay makes a relay. Run it once.
func NewRelay(cfg Config, store OutboxStore) (*Relay, error) {
	cfg = cfg.withDefaults()
	client, err := cfg.client()
	if err != nil {
		return nil, err
	}
	writer := newBulkWriter(client)
	publisher, err := redisstream.NewPublisher(redisstream.PublisherConfig{
		Client: writer, Marshaller: redisstream.DefaultMarshallerUnmarshaller{},
		Maxlens: map[string]int64{cfg.Stream: cfg.StreamLen},
	}, cfg.watermillLog())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make publisher: %w", err), client.Close())
	}
	return &Relay{cfg: cfg, store: store, publisher: publisher, writer: writer, outage: outage{log: cfg.Logger, what: "relay"}}, nil
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
	// What this session commits is the deletion of what was published. If that is lost in a crash of the
	// database the events are published again, which may always happen: no flush need be waited for.
	if _, err := conn.Exec(ctx, `set synchronous_commit = off`); err != nil {
		return fmt.Errorf("set up the relay's session: %w", err)
	}
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
	busy := pause{least: relayLinger, most: relayLinger}
	retry := pause{least: idleMost, most: 2 * time.Second}
	for ctx.Err() == nil {
		select {
		case <-check:
			if err := lock.Ping(ctx); err != nil {
				return fmt.Errorf("hold the relay's lock: %w", err)
			}
		default:
		}
		r.forgetWake()
		n, err := r.publish(ctx, lock)
		r.outage.note(ctx, err)
		switch {
		case err != nil && lock.IsClosed():
			return err
		case err != nil:
			retry.wait(ctx, nil)
		case n > 0:
			retry.reset()
			idle.reset()
			if n < relayRows {
				busy.wait(ctx, nil)
			}
		default:
			retry.reset()
			if !idle.wait(ctx, r.cfg.Wake) {
				return nil
			}
		}
	}
	return nil
}

// forgetWake takes a wake-up for what the next reading of the outbox finds.
func (r *Relay) forgetWake() {
	select {
	case <-r.cfg.Wake:
	default:
	}
}

// publish empties the oldest part of the outbox and says how many rows that were. A failure leaves every row
// it read where it is, so that all of them are published again.
func (r *Relay) publish(ctx context.Context, lock *pgx.Conn) (int, error) {
	rows, err := r.store.Outbox(ctx, relayRows)
	if err != nil || len(rows) == 0 {
		return 0, err
	}
	for _, piece := range cut(coalesce(rows), relayEvents) {
		entries, err := readRuns(ctx, r.store.Pool(), piece)
		if err != nil {
			return 0, err
		}
		if err := r.send(ctx, entries); err != nil {
			return 0, err
		}
		r.cfg.Metrics.published.Add(float64(len(entries)))
	}
	return len(rows), r.remove(ctx, lock, rows)
}

// send publishes events in their order. A failure may leave the first of them on the stream.
func (r *Relay) send(ctx context.Context, entries []entry) error {
	for chunk := range slices.Chunk(entries, publishMost) {
		messages := make([]*message.Message, len(chunk))
		for i, e := range chunk {
			messages[i] = e.message()
			messages[i].SetContext(ctx)
		}
		err := r.publisher.Publish(r.cfg.Stream, messages...)
		if err = errors.Join(err, r.writer.send(ctx)); err != nil {
			return fmt.Errorf("publish events: %w", err)
		}
	}
	return nil
}

// remove deletes rows whose events are on the stream, also when ctx ended meanwhile. It does so in the
// session of the lock: a relay that has lost it finds out here.
func (r *Relay) remove(ctx context.Context, lock *pgx.Conn, rows []eventstore.OutboxRow) error {
	ids := make([]int64, len(rows))
	for i, row := range rows {
		ids[i] = row.ID
	}
	removing, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteWithin)
	defer cancel()
	_, err := lock.Exec(removing, `delete from outbox where id = any ($1)`, ids)
	return wrap(err, "delete published rows")
}
