#!/usr/bin/env bash
# Installs everything Featurescope needs to build, test and run on Debian 12, from apt and npm alone.
# Idempotent; run as root or as a user with sudo.   usage: deploy/setup.sh [--no-web]
set -euo pipefail
cd "$(dirname "$0")/.."

web=yes
[ "${1:-}" = --no-web ] && web=no

run() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
say() { printf '\033[1m==> %s\033[0m\n' "$*"; }

# libopenblas0-openmp replaces the reference BLAS that libtorch-dev pulls in and that runs 26 times slower.
packages=(
  clang clang-format clang-tidy libclang-rt-14-dev g++ cmake ninja-build ccache git ca-certificates curl
  libtorch-dev libopenblas0-openmp libgomp1 libomp-14-dev
  libgrpc++-dev libprotobuf-dev protobuf-compiler protobuf-compiler-grpc
  libabsl-dev libsqlite3-dev libboost-dev libsentencepiece-dev libpcre2-dev libutf8proc-dev
  nlohmann-json3-dev zlib1g-dev libjemalloc2 libgtest-dev libgmock-dev libbenchmark-dev
  python3
)
web_packages=(nodejs npm chromium fonts-dejavu-core)

missing=()
wanted=("${packages[@]}")
if [ $web = yes ]; then
  # A Node that came from elsewhere (nodesource, nvm) counts: Debian's npm conflicts with it.
  for p in "${web_packages[@]}"; do
    case $p in
      nodejs) command -v node >/dev/null && continue ;;
      npm) command -v npm >/dev/null && continue ;;
    esac
    wanted+=("$p")
  done
fi
for p in "${wanted[@]}"; do
  dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q '^install ok installed' || missing+=("$p")
done
if [ ${#missing[@]} -gt 0 ]; then
  say "apt: installing ${missing[*]}"
  run apt-get update -q
  run env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
fi

say "ready: $(cmake --version | head -1), $(clang --version | head -1)"
