#!/bin/sh
# Installs what the tests of the image need, where that is one quiet step: Debian's packages, as root.
#
#   sh tests/image/install_podman.sh
set -eu
for program in podman runc debootstrap; do
  command -v "$program" >/dev/null || missing="${missing:-} $program"
done
[ -n "${missing:-}" ] || exit 0
command -v apt-get >/dev/null || { echo "no apt-get: install$missing otherwise" >&2; exit 1; }
[ "$(id -u)" = 0 ] || { echo "not root: sudo apt-get install$missing" >&2; exit 1; }
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086
apt-get install -qq --yes --no-install-recommends $missing >/dev/null
