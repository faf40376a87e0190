# shellcheck shell=bash
# What the scripts beside this file share. Sourced, never run by itself.

# shellcheck disable=SC2034 # used where this is sourced
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
me=$(basename "$0")

say() { printf '%s: %s\n' "$me" "$*" >&2; }
fail() {
  printf '%s: FAILED: %s\n' "$me" "$*" >&2
  exit 1
}

# Where running servers leave their process ids, addresses and logs. A test run
# sets MAINSTAY_STATE to a fresh directory, so that two runs never see each
# other's servers. Started by hand, one directory per user is used, so that
# `stop` finds what `start` started.
state_dir() {
  local dir=${MAINSTAY_STATE:-${TMPDIR:-/tmp}/mainstay-$(id -u)}
  [ -d "$dir" ] || (umask 077 && mkdir -p "$dir")
  # The name in a shared temporary directory can be guessed: refuse a planted one.
  [ -O "$dir" ] || fail "state directory $dir belongs to someone else; set MAINSTAY_STATE"
  (cd "$dir" && pwd)
}

# A port that nothing listens on now. It is taken from below the range the
# kernel gives to outgoing connections, so that only another server can take it
# before we do; callers start again with a new port when that happens.
free_port() {
  local port
  for _ in $(seq 200); do
    port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      echo "$port"
      return 0
    fi
  done
  fail "found no free port on 127.0.0.1"
}

# What tells a process from a later one that got the same id: its start time.
# Empty when there is no such process, or it is only waiting to be reaped.
born() {
  if [ -d /proc/self ]; then
    # In clock ticks since boot; the time of day that ps prints for it may be off
    # by a second from one call to the next. The name before it may hold spaces.
    sed -n 's/^.*) //p' "/proc/$1/stat" 2>/dev/null | awk '$1 != "Z" { print $20 }' || true
  else
    ps -o stat=,lstart= -p "$1" 2>/dev/null | awk '$1 !~ /^Z/ { $1 = ""; print }' || true
  fi
}

remember() { # FILE PID: note a process we started
  printf '%s\n%s\n' "$2" "$(born "$2")" >"$1.new"
  mv "$1.new" "$1"
}

running() { # FILE: prints the id of the process noted there, if it still runs
  local pid since now
  [ -f "$1" ] || return 1
  { read -r pid && IFS= read -r since; } <"$1" || return 1
  now=$(born "$pid")
  [ -n "$now" ] && [ "$now" = "$since" ] || return 1
  echo "$pid"
}

end() { # FILE: ask the process noted there to stop, wait, then insist
  local pid
  if pid=$(running "$1"); then
    kill "$pid" 2>/dev/null || true
    for _ in $(seq 100); do
      running "$1" >/dev/null || break
      sleep 0.1
    done
    if running "$1" >/dev/null; then
      say "process $pid did not stop within 10 s, killing it"
      kill -KILL "$pid" 2>/dev/null || true
      while running "$1" >/dev/null; do sleep 0.1; done
    fi
  fi
  rm -f "$1"
}

# Waits until a URL answers 2xx; gives up when the process is gone or time is.
await() { # FILE URL SECONDS
  local stop=$((SECONDS + $3))
  while ! curl -sf --noproxy '*' --max-time 5 -o /dev/null "$2"; do
    running "$1" >/dev/null || return 1
    [ "$SECONDS" -lt "$stop" ] || return 2
    sleep 0.2
  done
}
