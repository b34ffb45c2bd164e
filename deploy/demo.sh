#!/usr/bin/env bash
# From nothing to features in the browser: sets up, builds, serves the embedded demo model, trains a
# small SAE on it, indexes and measures it, and shows what it found.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: deploy/demo.sh [--no-wait] [--port N] [--http-port N] [--data-dir DIR]
       deploy/demo.sh --stop [--data-dir DIR]

  --no-wait        return once everything is ready, leaving the server running
  --stop           end a server left running
  --port N         gRPC port (default 50051)
  --http-port N    port of the web app (default 8080)
  --data-dir DIR   where everything is kept (default deploy/.demo)
TEXT
}

start_dir=$PWD
cd "$(dirname "$0")/.."
wait=yes stop=no port=50051 http_port=8080 data_dir=$PWD/deploy/.demo
while [ $# -gt 0 ]; do
  case $1 in
    --no-wait) wait=no ;;
    --stop) stop=yes ;;
    --port) port=$2; shift ;;
    --http-port) http_port=$2; shift ;;
    --data-dir) case $2 in /*) data_dir=$2 ;; *) data_dir=$start_dir/$2 ;; esac; shift ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done
pid_file=$data_dir/server.pid
log=$data_dir/server.log
url=http://127.0.0.1:$http_port

is_running() { [ -e "$pid_file" ] && kill -0 "$(cat "$pid_file")" 2>/dev/null; }

stop_server() {
  if ! is_running; then echo "no server is running on $data_dir"; return; fi
  kill "$(cat "$pid_file")"
  for _ in $(seq 300); do is_running || break; sleep 0.1; done
  if is_running; then kill -9 "$(cat "$pid_file")"; fi
  rm -f "$pid_file"
  echo "stopped"
}

start_server() {
  mkdir -p "$data_dir"
  chmod 700 "$data_dir"
  touch "$log"
  local log_lines
  log_lines=$(wc -l <"$log")
  setsid build/dev/server/featurescope-server --data_dir "$data_dir" --listen "127.0.0.1:$port" \
    --http "127.0.0.1:$http_port" --web_dir web/dist </dev/null >>"$log" 2>&1 &
  echo $! >"$pid_file"
  for _ in $(seq 300); do
    if ! is_running; then
      echo "the server did not start:" >&2
      tail -n 5 "$log" >&2
      rm -f "$pid_file"
      exit 1
    fi
    if grep -q 'serving gRPC' <(tail -n "+$((log_lines + 1))" "$log"); then return; fi
    sleep 0.1
  done
  echo "the server does not answer at $url; its log is $log" >&2
  exit 1
}

featurescope() { build/dev/client/featurescope --server "127.0.0.1:$port" "$@"; }
has() { grep -q "\"id\":\"$2\"" <<<"$(featurescope "$1" list --json)"; }
step() { printf '\n==> %s\n' "$*"; }

if [ $stop = yes ]; then stop_server; exit 0; fi

deploy/setup.sh
deploy/build.sh

if is_running; then
  step "the server is already running on $data_dir"
else
  step "starting the server"
  start_server
fi
trap '[ $wait = yes ] && stop_server || true' EXIT

step "the embedded demo model and its corpus"
has model demo-lm || featurescope model add demo-lm deploy/demo
has corpus demo-corpus || featurescope corpus add demo-corpus deploy/demo/corpus.jsonl --model demo-lm \
  --heldout 0.05
if ! has sae demo-topk; then
  step "training a TopK SAE on the residual stream after layer 3"
  featurescope train --id demo-topk --model demo-lm --corpus demo-corpus --hook blocks.3.hook_resid_post \
    --architecture topk --k 32 --d-sae 2048 --tokens 1000000 --batch-size 2048 --lr 1e-3 --wait
fi
if ! grep -q '"indexed_corpora":\["demo-corpus"\]' <<<"$(featurescope sae show demo-topk --json)"; then
  step "indexing every feature over the corpus"
  featurescope index --sae demo-topk --corpus demo-corpus --tokens 400000 --wait
fi

if ! grep -q '"job_id"' <<<"$(featurescope evaluation list --sae demo-topk --json)"; then
  step "measuring it on documents that it has not seen"
  featurescope evaluate --sae demo-topk --corpus demo-corpus --tokens 4096 --wait
fi

step "a short tour"
featurescope tour --sae demo-topk

printf '\nOpen %s in a browser. The command line is build/dev/client/featurescope' "$url"
[ "$port" = 50051 ] || printf ' --server 127.0.0.1:%s' "$port"
printf '.\n'
if [ $wait = yes ]; then
  echo "Ctrl-C stops the server; everything stays in $data_dir."
  trap 'echo' INT
  tail --pid="$(cat "$pid_file")" -f /dev/null || true
else
  echo "deploy/demo.sh --stop ends it."
fi
