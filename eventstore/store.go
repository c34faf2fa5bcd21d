package eventstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/budgetguard/budgetguard/domain"
)

// Store reads the ledger. It is safe for concurrent use and never writes to a stream.
type Store struct {
	pool *pgxpool.Pool
}

// maxReaders bounds the connections of a Store.
const maxReaders = 8

// OpenStore connects to the database at url.
func OpenStore(ctx context.Context, url string) (*Store, error) {
	// A reader that waits for a lock for ever would keep Close waiting too.
	pool, err := openPool(ctx, url, maxReaders, map[string]string{"lock_timeout": "2s"})
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	return &Store{pool: pool}, nil
}

func openPool(ctx context.Context, url string, size int32, settings map[string]string) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	cfg.MaxConns = size
	cfg.ConnConfig.ConnectTimeout = 3 * time.Second
	for name, value := range settings {
		cfg.ConnConfig.RuntimeParams[name] = value
	}
	cfg.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		return checkSettings(ctx, conn, settings)
	}
	return pgxpool.NewWithConfig(ctx, cfg)
}

// Pool is the connections of the store, for projections that keep their own tables.
func (s *Store) Pool() *pgxpool.Pool { return s.pool }

// Close disconnects.
func (s *Store) Close() { s.pool.Close() }

// Ping tells whether the database answers.
func (s *Store) Ping(ctx context.Context) error { return explainRefusal(s.pool.Ping(ctx)) }

// Run is a stretch of one tenant's stream: the versions after After and up to Upto.
type Run struct {
	Tenant      domain.TenantID
	After, Upto int64
}

// OutboxRow is what one append left to publish.
type OutboxRow struct {
	ID   int64
	Runs []Run
}

// Outbox lists the oldest rows that are still to be published. A row that commits late with a lower id
// is found the next time: the relay deletes what it published and keeps no position.
func (s *Store) Outbox(ctx context.Context, limit int) ([]OutboxRow, error) {
	rows, err := s.pool.Query(ctx, `select id, tenants, after, upto from outbox order by id limit $1`, limit)
	if err != nil {
		return nil, fmt.Errorf("read outbox: %w", err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (OutboxRow, error) {
		var r OutboxRow
		var tenants []string
		var after, upto []int64
		if err := row.Scan(&r.ID, &tenants, &after, &upto); err != nil {
			return r, err
		}
		for i := range tenants {
			r.Runs = append(r.Runs, Run{Tenant: domain.TenantID(tenants[i]), After: after[i], Upto: upto[i]})
		}
		return r, nil
	})
	if err != nil {
		return nil, fmt.Errorf("read outbox: %w", err)
	}
	return found, nil
}

// OutboxDepth is the number of appends still to be published.
func (s *Store) OutboxDepth(ctx context.Context) (int64, error) {
	var n int64
	if err := s.pool.QueryRow(ctx, `select count(*) from outbox`).Scan(&n); err != nil {
		return 0, fmt.Errorf("count outbox: %w", err)
	}
	return n, nil
}

// OpenHolds is the number of reservations open now, over all tenants.
func (s *Store) OpenHolds(ctx context.Context) (int64, error) {
	var n int64
	if err := s.pool.QueryRow(ctx, `select count(*) from hold`).Scan(&n); err != nil {
		return 0, fmt.Errorf("count holds: %w", err)
	}
	return n, nil
}

// Read returns a tenant's events after a version, in order, at most limit.
func (s *Store) Read(ctx context.Context, tenant domain.TenantID, after int64, limit int) ([]domain.Recorded, error) {
	return readEvents(ctx, s.pool, tenant, after, limit)
}

func readEvents(ctx context.Context, q querier, tenant domain.TenantID, after int64, limit int) ([]domain.Recorded, error) {
	rows, err := q.Query(ctx, `select version, ts, type, schema_version, body, hash from event
		where tenant_id = $1 and version > $2 order by version limit $3`, string(tenant), after, limit)
	if err != nil {
		return nil, fmt.Errorf("read events of %s: %w", tenant, err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (domain.Recorded, error) {
		r := domain.Recorded{Tenant: tenant}
		var kind, body string
		var schema int
		var hash []byte
		if err := row.Scan(&r.Version, &r.Time, &kind, &schema, &body, &hash); err != nil {
			return r, err
		}
		r.Time, r.Body = r.Time.UTC(), []byte(body)
		copy(r.Hash[:], hash)
		var err error
		if r.Event, err = decode(domain.EventType(kind), schema, r.Body); err != nil {
			return r, fmt.Errorf("version %d: %w", r.Version, err)
		}
		return r, nil
	})
	if err != nil {
		return nil, fmt.Errorf("read events of %s: %w", tenant, err)
	}
	return found, nil
}

// decode reads a stored body. What was appended could be read then: a body that cannot was changed,
// unless a newer build wrote it.
func decode(t domain.EventType, schema int, body []byte) (domain.Event, error) {
	e, err := domain.DecodeEvent(t, schema, body)
	if err != nil && !errors.Is(err, domain.ErrUnknownEvent) {
		return nil, fmt.Errorf("%w: %w", ErrTampered, err)
	}
	return e, err
}

// Head is the newest version of a tenant's stream.
type Head struct {
	Tenant  domain.TenantID
	Version int64
}

// Heads lists the streams by tenant, after one, at most limit.
func (s *Store) Heads(ctx context.Context, after domain.TenantID, limit int) ([]Head, error) {
	rows, err := s.pool.Query(ctx, `select tenant_id, version from tenant_head where tenant_id > $1 order by tenant_id limit $2`, string(after), limit)
	if err != nil {
		return nil, fmt.Errorf("read heads: %w", err)
	}
	heads, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Head, error) {
		var h Head
		var tenant string
		err := row.Scan(&tenant, &h.Version)
		h.Tenant = domain.TenantID(tenant)
		return h, err
	})
	if err != nil {
		return nil, fmt.Errorf("read heads: %w", err)
	}
	return heads, nil
}

// OverdueHold is an open reservation whose time is over.
type OverdueHold struct {
	Tenant      domain.TenantID
	Reservation domain.ReservationID
	ExpiresAt   time.Time
}

// Overdue lists reservations that are past their time by the database's clock: the oldest of each tenant
// first, so that a tenant whose holds cannot be closed does not hide the others'.
func (s *Store) Overdue(ctx context.Context, limit int) ([]OverdueHold, error) {
	rows, err := s.pool.Query(ctx, `select tenant_id, reservation_id::text, expires_at from (
			select *, row_number() over (partition by tenant_id order by expires_at) as nth
			from hold where expires_at <= clock_timestamp()) due
		order by nth, expires_at limit $1`, limit)
	if err != nil {
		return nil, fmt.Errorf("read overdue holds: %w", err)
	}
	holds, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (OverdueHold, error) {
		var tenant, reservation string
		var h OverdueHold
		err := row.Scan(&tenant, &reservation, &h.ExpiresAt)
		h.Tenant, h.Reservation = domain.TenantID(tenant), domain.ReservationID(reservation)
		return h, err
	})
	if err != nil {
		return nil, fmt.Errorf("read overdue holds: %w", err)
	}
	return holds, nil
}

// KeyRecord is a key as a credential: whose it is and what it may do.
type KeyRecord struct {
	Tenant domain.TenantID
	Key    domain.KeyID
	// ExpiresAt of a secret that was rotated away is the end of its grace, if that comes first.
	ExpiresAt *time.Time
	RevokedAt *time.Time
	Suspended bool
	Models    []string
	Tags      map[string]string
	// RequiredTags are the names that each request must bring.
	RequiredTags []string
}

// KeyByHash finds a key by its stored hash, or by that of the secret before its last rotation while that one
// still works; domain.ErrKeyUnknown if there is none.
func (s *Store) KeyByHash(ctx context.Context, hash string) (KeyRecord, error) {
	var k KeyRecord
	var tenant, key string
	err := s.pool.QueryRow(ctx, `select tenant_id, key_id, expires_at, revoked_at, suspended, models, tags, required_tags
			from api_key where key_hash = $1
		union all
		select tenant_id, key_id, least(expires_at, old_until), revoked_at, suspended, models, tags, required_tags
			from api_key where old_hash = $1 and old_until > clock_timestamp()
		limit 1`, hash).
		Scan(&tenant, &key, &k.ExpiresAt, &k.RevokedAt, &k.Suspended, &k.Models, &k.Tags, &k.RequiredTags)
	if errors.Is(err, pgx.ErrNoRows) {
		return k, domain.ErrKeyUnknown
	}
	if err != nil {
		return k, fmt.Errorf("read key: %w", err)
	}
	k.Tenant, k.Key = domain.TenantID(tenant), domain.KeyID(key)
	return k, nil
}

// TenantRecord is a tenant's definition.
type TenantRecord struct {
	Tenant    domain.TenantID
	Name      string
	Zone      domain.Zone
	RateLimit *int64
	Suspended bool
	// EverKeyed says that a key was issued once, so that the tenant's id alone is no credential.
	EverKeyed bool
	CreatedAt time.Time
}

// Tenant reads a tenant's definition; domain.ErrTenantUnknown if there is none.
func (s *Store) Tenant(ctx context.Context, tenant domain.TenantID) (TenantRecord, error) {
	t := TenantRecord{Tenant: tenant}
	var zone string
	err := s.pool.QueryRow(ctx, `select name, zone, rate_limit, suspended, ever_keyed, created_at from tenant where tenant_id = $1`, string(tenant)).
		Scan(&t.Name, &zone, &t.RateLimit, &t.Suspended, &t.EverKeyed, &t.CreatedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return t, fmt.Errorf("%w: %s", domain.ErrTenantUnknown, tenant)
	}
	if err != nil {
		return t, fmt.Errorf("read tenant %s: %w", tenant, err)
	}
	t.Zone, err = domain.ParseZone(zone)
	return t, err
}

// TenantIDs lists tenants by id, after one, at most limit. Reserved streams are not among them.
func (s *Store) TenantIDs(ctx context.Context, after domain.TenantID, limit int) ([]domain.TenantID, error) {
	rows, err := s.pool.Query(ctx, `select tenant_id from tenant where tenant_id > $1 and tenant_id not like '\_%' order by tenant_id limit $2`, string(after), limit)
	if err != nil {
		return nil, fmt.Errorf("read tenants: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("read tenants: %w", err)
	}
	tenants := make([]domain.TenantID, len(ids))
	for i, id := range ids {
		tenants[i] = domain.TenantID(id)
	}
	return tenants, nil
}

// State is a tenant's state now; domain.ErrTenantUnknown if the stream has not begun. It takes no lock:
// the tables are read in one snapshot.
func (s *Store) State(ctx context.Context, tenant domain.TenantID) (domain.State, error) {
	var state domain.State
	err := pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		var err error
		state, _, err = loadState(ctx, tx, tenant)
		return err
	})
	if err == nil && !state.Exists() {
		err = fmt.Errorf("%w: %s", domain.ErrTenantUnknown, tenant)
	}
	return state, err
}

// PartitionsAhead makes the event partitions of this month and the next ones where they are missing, and
// says how many it made. It needs the owner's rights. It gives up after half a second behind a long reader
// of event: waiting longer would queue every append behind it.
func (s *Store) PartitionsAhead(ctx context.Context, months int) (int, error) {
	var made int
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `set local lock_timeout = '500ms'`); err != nil {
			return err
		}
		return tx.QueryRow(ctx, `select event_partitions_ahead(now(), $1)`, months).Scan(&made)
	})
	if err != nil {
		return 0, fmt.Errorf("make partitions: %w", err)
	}
	return made, nil
}

// OwnsEvents tells whether the present role owns the table event, and could so take its guards away.
func (s *Store) OwnsEvents(ctx context.Context) (bool, error) {
	var owns bool
	err := s.pool.QueryRow(ctx, `select pg_has_role(current_user, relowner, 'usage') from pg_class where oid = 'event'::regclass`).Scan(&owns)
	if err != nil {
		return false, fmt.Errorf("read the owner of event: %w", err)
	}
	return owns, nil
}
