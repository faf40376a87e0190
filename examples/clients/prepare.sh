# shellcheck shell=bash
# What the `run` scripts of the example clients share. Sourced, never run by itself.
#
# Each client is built in a copy of itself and of the protos, outside the clone and under the same
# relative paths, so the commands in the `run` scripts are those that you would type here. The copy
# is named by a hash of all that goes into it and built once: later runs only start the program.
#
# The copies are in $MAINSTAY_TOOLS/clients, else $XDG_CACHE_HOME/mainstay/tools/clients, else
# ~/.cache/mainstay/tools/clients. Remove them at any time.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
document=$root/examples/documents/incident.txt
here=$(cd "$(dirname "$0")" && pwd)

usage() {
  echo "usage: ${0##*/} ADDRESS [DOCUMENT]" >&2
  exit 2
}

# prepare LANGUAGE TOOLCHAIN FILE...: calls the function `build` in a fresh copy of the FILEs of
# examples/clients/LANGUAGE unless there is one already; sets `home` to the copy's directory.
# TOOLCHAIN, a version, goes into the copy's name.
prepare() {
  local language=$1 toolchain=$2 cache name file
  shift 2
  cache=${MAINSTAY_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/mainstay/tools}/clients
  mkdir -p "$cache"
  cache=$(cd "$cache" && pwd)
  local inputs=(proto buf.yaml examples/clients/prepare.sh "examples/clients/$language/run")
  for file; do inputs+=("examples/clients/$language/$file"); done
  name=$language-$(
    cd "$root"
    { echo "$toolchain" && find "${inputs[@]}" -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum; } |
      sha256sum | cut -c 1-16
  )
  home=$cache/$name/examples/clients/$language
  [ -d "$home" ] && return
  (
    exec 9>"$cache/$name.lock"
    flock 9
    [ ! -d "$home" ] || exit 0 # another run has built it meanwhile
    echo "client $language: building, once" >&2
    new=$(mktemp -d "$cache/$name.new.XXXXXX")
    trap 'rm -rf "$new"' EXIT
    (cd "$root" && cp --parents -R "${inputs[@]}" "$new")
    # `build` runs without the lock, which a daemon that it starts would keep.
    (cd "$new/examples/clients/$language" && set -e && build) 9>&- >&2
    mv "$new" "$cache/$name"
  )
}
