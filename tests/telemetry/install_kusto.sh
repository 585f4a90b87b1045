#!/bin/sh
# Installs Microsoft's Kusto parser, which tests of the queries ask, into .tools/kusto (ignored by git). It needs npm.
#
#   sh tests/telemetry/install_kusto.sh
set -eu
cd "$(dirname "$0")/../.."
version=12.4.1
target=.tools/kusto
ready=$target/.ready-$version
[ ! -f "$ready" ] || exit 0

command -v npm >/dev/null || { echo "npm is missing: install Node.js (apt-get install npm)" >&2; exit 1; }
mkdir -p "$target"
echo '*' >.tools/.gitignore
npm install --prefix "$target" --omit-lockfile-registry-resolved --no-audit --no-fund --loglevel=error \
  "@kusto/language-service-next@$version"
touch "$ready"
