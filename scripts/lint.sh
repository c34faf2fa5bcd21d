#!/bin/sh
# Runs golangci-lint at the one version that the configuration was checked with, given in
# GOLANGCI_VERSION: that on the PATH if it is the same, else one built once into the tools folder.
set -eu

version=${GOLANGCI_VERSION:?set by the Makefile}
tools=${XDG_CACHE_HOME:-${HOME:?}/.cache}/budgetguard/tools
lint=$tools/golangci-lint-$version

if command -v golangci-lint >/dev/null && golangci-lint version 2>/dev/null | grep -q "version v\{0,1\}$version "; then
  lint=golangci-lint
elif [ ! -x "$lint" ]; then
  printf 'lint: building golangci-lint %s once, into %s (some minutes)\n' "$version" "$tools" >&2
  mkdir -p "$tools"
  work=$(mktemp -d "$tools/work.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  trap 'exit 130' INT TERM
  (cd "$work" && GOFLAGS='' GOBIN=$work go install "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v$version")
  mv "$work/golangci-lint" "$lint"
fi
"$lint" "$@"
