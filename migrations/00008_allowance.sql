-- +goose Up

-- What overruns taught about the bounds of a model's requests (domain/pricing.Allowance), by the id of
-- the catalogue's row. It only grows. An operator who corrected the catalogue may delete a row.
create table allowance (
    model           text        primary key,
    prompt          bigint      not null check (prompt >= 0),          -- tokens
    prompt_permille bigint      not null check (prompt_permille >= 0), -- thousandths of the bound
    answer          bigint      not null check (answer >= 0),          -- tokens for each answer
    uncapped        boolean     not null,                              -- a cap was ignored
    cost_permille   bigint      not null check (cost_permille >= 0),   -- thousandths of the hold
    raised_at       timestamptz not null default clock_timestamp()
);
