#!/bin/sh
# The service `secrets` of docker-compose.yml: makes, once, the secrets that the other services read
# from two volumes, so that none of them is in an image, in a command line or known to everybody.
#
#   secrets.sh          makes what is missing, and says how to read it
#   secrets.sh NAME     prints one of them
set -eu
umask 022 # The volumes hold nothing else, and only the services that need a secret mount them.

root=${SECRETS_ROOT:-}             # for tests
app=$root/run/budgetguard/app     # read by gateway, worker and seed
owner=$root/run/budgetguard/owner # read by postgres, migrate and roles
given=$root/run/secrets           # files of this machine, named in .env: see docker-compose.yml

if [ $# -gt 0 ]; then
  case $1 in
    admin_api_key | database_url) exec cat "$app/$1" ;;
    migrate_database_url | postgres_password) exec cat "$owner/$1" ;;
    *)
      echo "secrets: there is no secret $1; there are admin_api_key, database_url," \
        "migrate_database_url and postgres_password" >&2
      exit 2
      ;;
  esac
fi

# 256 bits in hexadecimal, which no URL, shell or quoting has to escape.
random() { od -An -v -N32 -tx1 /dev/urandom | tr -d ' \n'; }

# Every byte as %XX, so that a password with @, : or / does not end the part of the URL that it is in.
escape() { od -An -v -tx1 | tr -d ' \n' | sed 's/../%&/g'; }

# keep FILE VALUE writes a file whole or not at all, so that a kill leaves no half of a secret.
keep() {
  printf '%s' "$2" >"$1.new"
  mv "$1.new" "$1"
}

# choose VARIABLE NAME prints what .env says: the variable, or the content of the file that
# VARIABLE_FILE names. Both at once is an error, as it is for `budgetguard` itself.
choose() {
  value=$(printenv "$1" || true)
  file=$(cat "$given/$2" 2>/dev/null || true)
  if [ -n "$value" ] && [ -n "$file" ]; then
    echo "secrets: $1 and $1_FILE are both set; keep one of them in .env" >&2
    exit 3
  fi
  printf '%s' "$value$file"
}

# settle FILE VALUE PREFIX: what .env says wins, then what an earlier run made, then a random value.
settle() {
  if [ -n "$2" ]; then
    keep "$1" "$2"
  elif [ ! -s "$1" ]; then
    keep "$1" "$3$(random)"
  fi
}

# A file that is named and cannot be read must not silently become a random secret.
for file in "$given"/*; do
  [ ! -e "$file" ] || cat "$file" >/dev/null
done

password=$(choose POSTGRES_PASSWORD postgres_password)
admin=$(choose ADMIN_API_KEY admin_api_key)
key=$(choose OPENAI_KEY openai_key)

settle "$owner/postgres_password" "$password" ''
settle "$app/app_password" '' ''
settle "$app/admin_api_key" "$admin" bga_

# The mock provider takes any key. A real one that left .env must not be kept.
keep "$app/openai_key" "${key:-sk-mock}"

host='postgres:5432/budgetguard?sslmode=disable' # the network of these services only
keep "$owner/migrate_database_url" \
  "postgres://budgetguard:$(escape <"$owner/postgres_password")@$host"
keep "$app/database_url" \
  "postgres://budgetguard_app:$(escape <"$app/app_password")@$host"

echo 'The admin key, for X-Admin-Key: docker compose run --rm -T secrets admin_api_key'
