#!/bin/sh
# Builds the image of the scoring app with podman or docker (or what ENGINE names):
#
#   sh environments/serving/build.sh WHEEL [OPTION OF BUILD...]
#   sh environments/serving/build.sh dist/stk_ml-0.1.0-py3-none-any.whl --tag stk-ml-serving --build-arg BASE_IMAGE=...
#
# How pip reaches its packages on this machine (index, proxy, certificates) goes into the build as secrets, which no
# layer of the image keeps.
set -eu
umask 077
wheel=$1
shift
here=$(cd "$(dirname "$0")" && pwd)
engine=${ENGINE:-$(command -v podman || command -v docker || true)}
[ -n "$engine" ] || { echo "neither podman nor docker is installed (apt-get install podman runc)" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir "$work/context"
cp "$here/Dockerfile" "$here/.dockerignore" "$here/requirements.lock" "$wheel" "$work/context"
chmod -R a+rX "$work/context"
version=$(basename "$wheel" | cut -d- -f2)
revision=$(git -C "$here" describe --always --dirty --abbrev=12 2>/dev/null || echo unknown)

# `pip config list` prints section.key='value'; later lines win: what the environment says comes after the files.
"${PYTHON:-python3}" -m pip config list 2>/dev/null | sort -r | sed -En \
  "s/^(:env:|global|install)\.(index-url|extra-index-url|proxy|trusted-host|timeout|default-timeout)='(.*)'$/\2 \3/p" |
  awk '!/file:/ && !seen[$1]++ { key = $1; sub(/^[^ ]* /, ""); gsub(/\\n/, " "); print key " = " $0 }' >"$work/settings"
certificates=${PIP_CERT:-${SSL_CERT_FILE:-${REQUESTS_CA_BUNDLE:-}}}
{
  echo '[global]'
  cat "$work/settings"
  [ ! -f "$certificates" ] || echo 'cert = /run/secrets/ca'
} >"$work/pip"
[ ! -f "$certificates" ] || set -- --secret "id=ca,src=$certificates" "$@"

export BUILDAH_FORMAT=docker # podman's default format has no HEALTHCHECK
"$engine" build --secret "id=pip,src=$work/pip" --build-arg "VERSION=$version" --build-arg "REVISION=$revision" \
  "$@" "$work/context"
