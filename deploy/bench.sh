#!/usr/bin/env bash
# Runs the benchmarks on a quiet machine, one after another; about ten minutes on 2 cores.
#   usage: deploy/bench.sh [NAME...]    names: train index explore model tokenizer startup (default: all)
set -euo pipefail
cd "$(dirname "$0")/.."

[ $# -gt 0 ] || set -- train index explore model tokenizer startup
for name in "$@"; do
  echo "==> $name"
  if [ "$name" = startup ]; then
    cmake --build build/dev --target featurescope-server featurescope >/dev/null
    python3 tests/bench/startup_bench.py build/dev
  else
    cmake --build build/dev --target "${name}_bench" >/dev/null
    "build/dev/tests/bench/${name}_bench"
  fi
done
