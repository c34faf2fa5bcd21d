-- +goose Up

-- Up to which version a tenant's stream was there before this migration, written in part by builds from before 00004:
-- those kept no presumption for a release, and opened the window of a new budget empty. ledger verify asks. The
-- table's lock lets no append pass between the two statements.
alter table tenant_head add column inherited bigint not null default 0;
update tenant_head set inherited = version;
