-- The role of gateway, worker and seed, with the rights that docs/operations.md lists: a test compares
-- them. Run by roles.sh at every start, since a migration may have made tables that the grants of an
-- earlier start do not reach.
do $$
begin
  if not exists (select from pg_roles where rolname = 'budgetguard_app') then
    create role budgetguard_app;
  end if;
end
$$;

grant usage on schema public to budgetguard_app;
grant select on all tables in schema public to budgetguard_app;
grant insert on
    event, account, account_archive, hold, presumption, attempt, outbox, tenant_head, tenant,
    api_key, budget, projection_cursor, usage_row, gateway_session, allowance
  to budgetguard_app;
grant update on
    account, hold, presumption, attempt, outbox, tenant_head, tenant, api_key, budget,
    projection_cursor, usage_row, gateway_session, allowance
  to budgetguard_app;
grant delete on
    account, account_archive, hold, presumption, attempt, outbox, budget, usage_row,
    projection_cursor, gateway_session
  to budgetguard_app;
-- and nothing but insert and select on event
grant execute on all functions in schema public to budgetguard_app;
