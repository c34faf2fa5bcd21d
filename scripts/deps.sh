#!/bin/sh
# Installs what `budgetguard dev` and the tests run beside themselves: Postgres and Redis.
# Quiet and quick when both are there. As root, or where sudo asks no password, by the
# system's package manager; otherwise on Debian and Ubuntu by unpacking the packages
# into a folder of the user's. Services of the distribution are neither started nor enabled.
# Exit code 4: could not be done, and the text says what to do.
set -eu

deps=${BUDGETGUARD_DEPS:-${HOME:-/nonexistent}/.cache/budgetguard/deps}

say() { printf 'deps: %s\n' "$*" >&2; }

# has DIR NAME…: all programs are in DIR.
has() {
  has_dir=$1
  shift
  for has_name; do
    [ -x "$has_dir/$has_name" ] || return 1
  done
}

# found NAME…: all programs are in one folder of those that internal/embedded searches.
found() {
  old_ifs=$IFS
  IFS=:
  for dir in $PATH; do
    has "$dir" "$@" && IFS=$old_ifs && return
  done
  IFS=$old_ifs
  for dir in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /usr/libexec/postgresql* \
    /usr/local/pgsql/bin /opt/homebrew/opt/postgresql*/bin /usr/local/opt/postgresql*/bin \
    /opt/homebrew/bin /usr/local/bin /usr/bin /usr/sbin /usr/local/sbin \
    "$deps"/usr/lib/postgresql/*/bin "$deps"/usr/bin; do
    has "$dir" "$@" && return
  done
  return 1
}

postgres_missing() { ! found postgres initdb; }
redis_missing() { ! found redis-server && ! found valkey-server; }
missing() { postgres_missing || redis_missing; }

give_up() {
  say "$1"
  say "install Postgres (15 or newer) and Redis (6.2 or newer) yourself, such as by"
  say "  sudo apt-get install postgresql redis-server      (Debian, Ubuntu)"
  say "  brew install postgresql@17 redis                  (macOS)"
  say "or let \`docker compose up\` run everything, or give \`budgetguard serve\` a DATABASE_URL and a REDIS_URL."
  exit 4
}

# --- by the package manager ---------------------------------------------------

root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  else
    sudo -n "$@"
  fi
}

can_root() { [ "$(id -u)" = 0 ] || { command -v sudo >/dev/null && sudo -n true 2>/dev/null; }; }

# Debian's packages make a cluster and start services: not for us.
apt_install() {
  cluster=/etc/postgresql-common/createcluster.d/budgetguard.conf
  policy=/usr/sbin/policy-rc.d
  made_policy=
  root mkdir -p "${cluster%/*}"
  echo 'create_main_cluster = false' | root tee "$cluster" >/dev/null
  if [ ! -e "$policy" ]; then
    made_policy=$policy
    printf '#!/bin/sh\nexit 101\n' | root tee "$policy" >/dev/null
    root chmod 755 "$policy"
  fi
  log=$(mktemp)
  # shellcheck disable=SC2064 # the names of now
  trap "root rm -f $cluster $made_policy $log" EXIT
  trap 'exit 130' INT TERM
  root env DEBIAN_FRONTEND=noninteractive apt-get -qq update >"$log" 2>&1 ||
    say "apt-get update failed; going on with the lists that are there: $(tail -n 1 "$log")"
  # shellcheck disable=SC2086 # a list of names
  root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends \
    -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 install $1 </dev/null >"$log" 2>&1 || {
    tail -n 20 "$log" >&2
    return 1
  }
  # shellcheck disable=SC2086
  disable_new $1
}

# disable_new PACKAGE…: what was not here a moment ago does not start at the next boot either.
disable_new() {
  command -v systemctl >/dev/null || return 0
  for package; do
    root systemctl disable --quiet "$package" >/dev/null 2>&1 || true
  done
}

with_manager() {
  names() { # names POSTGRES REDIS: those of the two that are missing
    postgres_missing && printf '%s ' "$1"
    redis_missing && printf '%s' "$2"
    return 0
  }
  # shellcheck disable=SC2046 # lists of names
  if command -v apt-get >/dev/null; then
    apt_install "$(names postgresql redis-server)"
  elif command -v dnf >/dev/null; then
    root dnf -q -y install $(names postgresql-server redis) >&2 ||
      root dnf -q -y install $(names postgresql-server valkey) >&2
  elif command -v apk >/dev/null; then
    root apk add -q $(names postgresql redis) >&2
  elif command -v pacman >/dev/null; then
    root pacman -Sy --noconfirm --needed $(names postgresql valkey) >&2
  else
    return 1
  fi
}

# --- without root -------------------------------------------------------------

# in_sandbox APT-COMMAND…: apt with lists and cache of our own; it reads the system's
# sources and what is installed, and writes neither.
in_sandbox() {
  tool=$1
  shift
  "$tool" -q -o Dir::State="$work/state" -o Dir::State::status=/var/lib/dpkg/status \
    -o Dir::Cache="$work/cache" -o Debug::NoLocking=1 "$@"
}

# Postgres and Redis with the libraries they lack. The just-in-time compiler
# (LLVM, 100 MB) is switched off by internal/embedded, and the wrappers are Perl.
wanted() { grep -E '^(postgresql-[0-9]+|redis-server|redis-tools|lib.*)$' | grep -vE '^(libllvm|libz3|libperl)|-perl$'; }

unpack_debs() {
  command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return 1
  mkdir -p "$deps"
  work=$(mktemp -d "$deps/work.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  trap 'exit 130' INT TERM
  mkdir -p "$work/state/lists/partial" "$work/cache/archives/partial" "$work/debs"
  say "no root here: unpacking packages into $deps"
  in_sandbox apt-get update >"$work/log" 2>&1 || return 1
  names=
  if postgres_missing; then
    names=$(in_sandbox apt-cache depends postgresql | awk '$1 == "Depends:" && $2 ~ /^postgresql-[0-9]+$/ {print $2; exit}')
  fi
  if redis_missing; then
    names="$names redis-server"
  fi
  # shellcheck disable=SC2086 # a list of names
  list=$(in_sandbox apt-get -s --no-install-recommends install $names 2>>"$work/log" | awk '$1 == "Inst" {print $2}' | wanted) || return 1
  # shellcheck disable=SC2086
  (cd "$work/debs" && in_sandbox apt-get download $list >>"$work/log" 2>&1) || return 1
  for deb in "$work"/debs/*.deb; do
    dpkg-deb -x "$deb" "$deps" || return 1
  done
}

# --- ----------------------------------------------------------------------------

missing || exit 0
if [ "$(uname -s)" = Darwin ]; then
  command -v brew >/dev/null || give_up "Homebrew is not installed."
  postgres_missing && brew install -q postgresql@17 >&2
  redis_missing && brew install -q redis >&2
elif can_root; then
  say "installing Postgres and Redis by the package manager"
  with_manager || give_up "the package manager could not install them, or is none that this script knows."
else
  unpack_debs || give_up "Postgres or Redis is missing, and without root (and without 'sudo -n') it could not be unpacked either${work:+: $(tail -n 3 "$work/log" 2>/dev/null)}."
fi
missing && give_up "the packages were installed, but the programs are not where they should be."
say "Postgres and Redis are installed"
