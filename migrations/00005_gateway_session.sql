-- +goose Up

-- The gateways that run or ran, by the name that every usage.reserved event carries, and by the database's
-- clock. A hold whose gateway beats no more is an orphan: nobody will settle it.
create table gateway_session (
    gateway      text        primary key,
    build        text        not null,
    started_at   timestamptz not null default clock_timestamp(),
    heartbeat_at timestamptz not null default clock_timestamp(),
    ended_at     timestamptz, -- it stopped and left nothing behind
    cleared_at   timestamptz  -- it is gone and none of its holds is left: nobody need look for them again
) with (fillfactor = 50);
