#!/bin/sh
# The service `roles` of docker-compose.yml: makes, as the owner of the tables, the role under which
# gateway, worker and seed run.
set -eu

# By the environment, which only this container sees: an argument shows in every list of processes.
APP_PASSWORD=$(cat /run/budgetguard/app/app_password)
export APP_PASSWORD

# One transaction: the role never has half of its rights.
psql -X -q -1 -v ON_ERROR_STOP=1 -d "$(cat /run/budgetguard/owner/migrate_database_url)" <<'SQL'
\i /roles.sql
\getenv password APP_PASSWORD
alter role budgetguard_app login password :'password';
SQL
