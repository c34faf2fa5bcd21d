#!/bin/sh
# Runs beside a test process, with its directory in $1, and outlives it by a moment.
dir=$1
cat >/dev/null # ends when the test process does, however it does
tries=0
while [ -e "$dir" ] && [ "$tries" -lt 100 ]; do
  # On Linux the kernel has told the servers already. Elsewhere they live on, so:
  for file in "$dir"/*/postgres/postmaster.pid "$dir"/*/redis/redis.pid; do
    [ -r "$file" ] || continue
    pid=$(head -n 1 "$file")
    case $(ps -o args= -p "$pid" 2>/dev/null) in
      *"$dir"* | redis-server* | valkey-server*) kill -QUIT "$pid" 2>/dev/null ;;
    esac
  done
  rm -rf "$dir" 2>/dev/null # fails as long as a server still writes
  tries=$((tries + 1))
  [ -e "$dir" ] && sleep 0.1
done
exit 0
