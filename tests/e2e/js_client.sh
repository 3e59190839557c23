#!/usr/bin/env bash
# The npm package etcd3 on three nodes of Quorate: installs it into a directory of its own and runs tests/clients/js.
#
#   tests/e2e/js_client.sh target/release/quorate
#
# Needs node and npm. Ends with the line "N passed, N failed"; the exit code is 0 if nothing failed.
set -euo pipefail

[ $# -eq 1 ] || { echo "usage: $0 QUORATE" >&2; exit 2; }
quorate=$(realpath "$1")
cd "$(dirname "$0")"
scratch=$(mktemp -d)

cleanup() {
    ./cluster.sh stop "$scratch/quorate" || true
    rm -rf "$scratch"
}
trap cleanup EXIT

mkdir "$scratch/js"
cp ../clients/js/* "$scratch/js"
(cd "$scratch/js" && npm install --silent --no-audit --no-fund --no-package-lock)
endpoints=$(./cluster.sh start "$scratch/quorate" "$quorate")
node "$scratch/js/client.js" "$endpoints" "$scratch/quorate" "$PWD/cluster.sh"
./cluster.sh stop "$scratch/quorate"
