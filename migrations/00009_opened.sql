-- +goose Up

-- What tells a gateway that loads a tenant that a row is lost, whose absence would loosen a limit: a budget without
-- its row limits nothing, and one without the row of its newest account begins an empty window. The two columns are
-- moved by triggers, so that every build keeps them, those from before this migration too.

-- How many rows of budget the tenant has.
alter table tenant_head add column budgets bigint not null default 0;
update tenant_head h set budgets = n.budgets
from (select tenant_id, count(*) as budgets from budget group by tenant_id) n where n.tenant_id = h.tenant_id;

-- The newest account of the budget, or 0 before its first window.
alter table budget add column opened bigint not null default 0;
update budget b set opened = a.newest
from (select tenant_id, budget_id, max(account_id) as newest from account group by tenant_id, budget_id) a
where a.tenant_id = b.tenant_id and a.budget_id = b.budget_id;

-- A window that opens in the turn that defines its budget has its row first, so both sides look for the other.
-- +goose StatementBegin
create function account_opened() returns trigger language plpgsql as $$
begin
    update budget set opened = new.account_id
    where tenant_id = new.tenant_id and budget_id = new.budget_id and opened < new.account_id;
    return null;
end $$;
-- +goose StatementEnd
create trigger account_opened after insert on account for each row execute function account_opened();

-- +goose StatementBegin
create function budget_defined() returns trigger language plpgsql as $$
begin
    select coalesce(max(account_id), 0) into new.opened
    from account where tenant_id = new.tenant_id and budget_id = new.budget_id;
    update tenant_head set budgets = budgets + 1 where tenant_id = new.tenant_id;
    return new;
end $$;
-- +goose StatementEnd
create trigger budget_defined before insert on budget for each row execute function budget_defined();

-- Only a budget that was retired counts no more: its event is there before its row goes, in the same transaction. A row
-- that goes otherwise is missed. The events of one turn are at most some tens of thousands.
-- +goose StatementBegin
create function budget_retired() returns trigger language plpgsql as $$
begin
    update tenant_head h set budgets = budgets - 1
    where h.tenant_id = old.tenant_id and exists (
        select from event e where e.tenant_id = h.tenant_id and e.version > h.version - 50000
            and e.type = 'budget.retired' and e.body::jsonb ->> 'budgetId' = old.budget_id);
    return null;
end $$;
-- +goose StatementEnd
create trigger budget_retired after delete on budget for each row execute function budget_retired();
