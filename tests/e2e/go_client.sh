#!/usr/bin/env bash
# etcd's Go client with its recipes on three nodes of Quorate: builds tests/clients/go and runs it.
#
#   tests/e2e/go_client.sh target/release/quorate
#
# Needs Debian's golang-go and golang-etcd-server-dev. Ends with the line "N passed, N failed"; the exit code is 0 if
# nothing failed.
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

# Debian's Go packages are sources in one tree, without modules.
GO111MODULE=off GOPATH=/usr/share/gocode GOFLAGS= go build -o "$scratch/go_client" ../clients/go/*.go
endpoints=$(./cluster.sh start "$scratch/quorate" "$quorate")
"$scratch/go_client" "$endpoints" "$scratch/quorate" "$PWD/cluster.sh"
./cluster.sh stop "$scratch/quorate"
