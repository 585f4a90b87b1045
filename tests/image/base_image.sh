#!/bin/sh
# Makes a base image where none can be pulled: a minimal Debian with Python, straight from a Debian mirror
# (DEBIAN_MIRROR, else debootstrap's own). Needs root.
#
#   sh tests/image/base_image.sh NAME
set -eu
name=$1
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates,libgomp1 bookworm "$root" ${DEBIAN_MIRROR:-}
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/* \
  "$root"/usr/share/doc "$root"/usr/share/man "$root"/usr/share/locale
tar -C "$root" -c . | podman import - "$name"
