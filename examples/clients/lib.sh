# shellcheck shell=bash
# What the four run scripts share. Sourced, never run by itself.

client=$(cd "$(dirname "${BASH_SOURCE[1]}")" && pwd)
language=$(basename "$client")
root=$(cd "$client/../../.." && pwd)
cache=${MAINSTAY_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/mainstay/tools}
case $cache in /*) ;; *) cache=$PWD/$cache ;; esac

say() { printf 'client %s: %s\n' "$language" "$*" >&2; }
fail() {
  say "FAILED: $*"
  exit 1
}

# Sets address and document, and goes to the client's directory.
# shellcheck disable=SC2034 # used where this is sourced
arguments() { # "$@" of the script
  if [ $# -lt 1 ] || [ $# -gt 2 ]; then
    echo "usage: $client/run ADDRESS [DOCUMENT]" >&2
    exit 2
  fi
  address=$1
  document=${2:-$root/examples/documents/incident.txt}
  case $document in /*) ;; *) document=$PWD/$document ;; esac
  [ -r "$document" ] || fail "cannot read $document"
  cd "$client"
}

# Sets home to a directory of the cache that holds what the client needs. If it is not
# there, the function `install DIRECTORY` of the script fills a new one, which takes its
# name when it is complete.
cached() { # WHAT-ELSE-IT-DEPENDS-ON FILE...
  local key new began=$SECONDS
  key=$({ echo "$1" && shift && cat "$@"; } | sha256sum | cut -c1-16)
  home=$cache/clients/$language-$key
  if [ -d "$home" ]; then return 0; fi
  mkdir -p "$cache/clients"
  # A second run waits here until the first has finished, then finds it done.
  exec 9>"$cache/clients/.lock-$language"
  flock 9
  if [ ! -d "$home" ]; then
    say "installing what it needs"
    rm -rf "$cache/clients/.new-$language".*
    new=$(mktemp -d "$cache/clients/.new-$language.XXXXXX")
    install "$new" >&2 9>&-
    chmod 755 "$new"
    mv "$new" "$home"
    say "installed in $((SECONDS - began)) s, $(du -sh "$home" | cut -f1)"
  fi
  exec 9>&-
}

# The program buf, at the version that the repository uses everywhere.
use_buf() {
  "$root/scripts/tools" install buf
  PATH=$(dirname "$("$root/scripts/tools" path buf)"):$PATH
}

# Code is generated and built inside the clone, in directories that git ignores: by one
# run at a time, and while no other run uses it.
building() {
  exec 8<"$client"
  flock 8
}
built() { flock -s 8; }
