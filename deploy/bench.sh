#!/usr/bin/env bash
# Runs the benchmarks on a quiet machine, one after another; about twenty minutes on 2 cores.
#   usage: deploy/bench.sh [NAME...]    names: train quality index explore load model tokenizer startup (default: all)
set -euo pipefail
cd "$(dirname "$0")/.."

[ $# -gt 0 ] || set -- train quality index explore load model tokenizer startup
for name in "$@"; do
  echo "==> $name"
  if [ "$name" = load ]; then
    cmake --build build/dev --target load_client >/dev/null
    dir=$(mktemp -d)
    deploy/demo.sh --no-wait --data-dir "$dir" --port 50952 --http-port 50982 >"$dir/demo.log" 2>&1
    build/dev/tests/bench/load_client 127.0.0.1:50952 demo-topk
    deploy/demo.sh --stop --data-dir "$dir"
    rm -rf "$dir"
  elif [ "$name" = startup ]; then
    cmake --build build/dev --target featurescope-server featurescope >/dev/null
    python3 tests/bench/startup_bench.py build/dev
  else
    cmake --build build/dev --target "${name}_bench" >/dev/null
    "build/dev/tests/bench/${name}_bench"
  fi
done
