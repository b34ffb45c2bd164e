#!/usr/bin/env bash
# Builds the server, the command line and the web app.   usage: deploy/build.sh [--tests]
set -euo pipefail
cd "$(dirname "$0")/.."
. deploy/env.sh

targets=(featurescope-server featurescope)
[ "${1:-}" = --tests ] && targets=(all)

echo "==> building C++ (build/dev)"
[ -e build/dev/build.ninja ] || cmake --preset dev >/dev/null
cmake --build build/dev --target "${targets[@]}" | { grep -v '^ninja: no work to do' || true; }

# The web app is built anew when a source of it, or of the contract, is newer.
if [ ! -e web/dist/index.html ] ||
  [ -n "$(find web/src web/index.html web/package.json web/vite.config.ts proto -newer web/dist/index.html \
    -type f -not -path 'web/src/gen/*' -print -quit)" ]; then
  echo "==> building the web app (web/dist)"
  (cd web && npm run --silent build)
fi
