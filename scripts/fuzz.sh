#!/bin/sh
# Runs each fuzz target of the module for the time given as the first argument. What
# a target finds is kept by Go under its testdata and fails `make test` from then on.
set -eu

time=${1:?how long each target runs, such as 30s}
only=${2:-} # part of a name
# shellcheck disable=SC2016 # a group of sed, not a variable
targets=$(grep -rE '^func Fuzz[A-Za-z0-9_]*\(' --include='*_test.go' . |
  sed -E 's#^(.*)/[^/]*_test\.go:func (Fuzz[A-Za-z0-9_]*)\(.*#\1 \2#' | grep -F "$only" | sort)
if [ -z "$targets" ]; then
  echo "fuzz: no target${only:+ has '$only' in its name}" >&2
  exit 1
fi

failed=
while read -r dir name; do
  printf '== %s %s\n' "$dir" "$name"
  go test -run '^$' -fuzz "^$name\$" -fuzztime "$time" "$dir" </dev/null || failed="$failed $name"
done <<EOT
$targets
EOT
if [ -n "$failed" ]; then
  echo "fuzz: failed:$failed" >&2
  exit 1
fi
