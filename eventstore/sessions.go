package eventstore

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/budgetguard/budgetguard/domain"
)

const (
	// sessionLinger is how long a session that is over is still looked at: no append of its gateway can be
	// under way in the database any more, whose statements end after ten seconds.
	sessionLinger = time.Minute
	// SessionLife is how long a session is kept at least once nothing of its gateway is left: no hold, and nothing
	// it wrote since.
	SessionLife = 7 * 24 * time.Hour
)

// Beat says that a gateway lives; the first beat begins its session.
func (s *Store) Beat(ctx context.Context, gateway, build string) error {
	_, err := s.pool.Exec(ctx, `insert into gateway_session (gateway, build) values ($1, $2)
		on conflict (gateway) do update set heartbeat_at = clock_timestamp(), ended_at = null, cleared_at = null`, gateway, build)
	if err != nil {
		return fmt.Errorf("beat of %s: %w", gateway, err)
	}
	return nil
}

// EndSession says that a gateway is gone and that whatever it still holds is an orphan.
func (s *Store) EndSession(ctx context.Context, gateway string) error {
	_, err := s.pool.Exec(ctx, `update gateway_session set ended_at = clock_timestamp() where gateway = $1 and ended_at is null`, gateway)
	if err != nil {
		return fmt.Errorf("end session of %s: %w", gateway, err)
	}
	return nil
}

// HasSession tells whether a gateway of that name runs on this database, or did until SessionLife ago.
func (s *Store) HasSession(ctx context.Context, gateway string) (bool, error) {
	var has bool
	if err := s.pool.QueryRow(ctx, `select exists (select from gateway_session where gateway = $1)`, gateway).Scan(&has); err != nil {
		return false, fmt.Errorf("read session of %s: %w", gateway, err)
	}
	return has, nil
}

// Orphans lists open reservations whose gateway ended, or has not beaten for the time given, in the order of
// Overdue. A gateway without a session, of an older build, is not among them. While every gateway lives it
// reads gateway_session only. A database that was away heard no beat: its start counts as one of everybody's.
func (s *Store) Orphans(ctx context.Context, after time.Duration, limit int) ([]OverdueHold, error) {
	dead, err := s.deadGateways(ctx, after)
	if err != nil || len(dead) == 0 {
		return nil, err
	}
	holds, gateways, err := s.holdsOf(ctx, dead, limit)
	if err != nil {
		return nil, err
	}
	if len(holds) < limit { // all of them
		err = s.clearSessions(ctx, dead, gateways)
	}
	return holds, err
}

func (s *Store) deadGateways(ctx context.Context, after time.Duration) ([]string, error) {
	rows, err := s.pool.Query(ctx, `select gateway from gateway_session where cleared_at is null and (ended_at is not null
		or greatest(heartbeat_at, pg_postmaster_start_time()) < clock_timestamp() - $1::interval) limit 1000`, after)
	if err != nil {
		return nil, fmt.Errorf("read sessions: %w", err)
	}
	dead, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("read sessions: %w", err)
	}
	return dead, nil
}

// holdsOf lists the open holds of gateways, and the gateways that have any. Each hold's event is looked up by
// its key: the lateral limit keeps the planner from reading all events instead.
func (s *Store) holdsOf(ctx context.Context, gateways []string, limit int) ([]OverdueHold, []string, error) {
	rows, err := s.pool.Query(ctx, `select tenant_id, reservation_id::text, expires_at, gateway from (
			select h.*, e.gateway, row_number() over (partition by h.tenant_id order by h.expires_at) as nth
			from hold h cross join lateral (
				select body::jsonb->>'gateway' as gateway from event
				where tenant_id = h.tenant_id and version = h.opened and ts = h.opened_ts limit 1) e
			where e.gateway = any($1)) orphan
		order by nth, expires_at limit $2`, gateways, limit)
	if err != nil {
		return nil, nil, fmt.Errorf("read orphans: %w", err)
	}
	var having []string
	holds, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (OverdueHold, error) {
		var tenant, reservation, gateway string
		var h OverdueHold
		err := row.Scan(&tenant, &reservation, &h.ExpiresAt, &gateway)
		h.Tenant, h.Reservation = domain.TenantID(tenant), domain.ReservationID(reservation)
		having = append(having, gateway)
		return h, err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("read orphans: %w", err)
	}
	return holds, having, nil
}

// clearSessions notes that of these gateways all but some have no holds any more, and forgets old sessions.
func (s *Store) clearSessions(ctx context.Context, dead, having []string) error {
	_, err := s.pool.Exec(ctx, `with cleared as (
			update gateway_session set cleared_at = clock_timestamp()
			where gateway = any($1) and gateway <> all($2) and cleared_at is null and heartbeat_at < clock_timestamp() - $3::interval)
		delete from gateway_session where cleared_at < clock_timestamp() - $4::interval`,
		dead, append([]string{}, having...), sessionLinger, SessionLife)
	if err != nil {
		return fmt.Errorf("clear sessions: %w", err)
	}
	return nil
}
