#!/usr/bin/env bash
# A Python client, or curl at the JSON gateway, on three nodes of Quorate: starts them, installs what the client needs
# into a directory of the run's own, and runs its script.
#
#   tests/e2e/with_cluster.sh target/release/quorate etcd3|etcd3gw|patroni|gateway
#
# Ends with the line "N passed, N failed"; the exit code is 0 if nothing failed.
set -euo pipefail

usage() { sed -n 's/^#   //p' "$0" >&2; exit 2; }
[ $# -eq 2 ] || usage
quorate=$(realpath "$1")
client=$2
cd "$(dirname "$0")"
scratch=$(mktemp -d)

cleanup() {
    ./cluster.sh stop "$scratch/quorate" || true
    rm -rf "$scratch"
}
trap cleanup EXIT

# python TEST REQUIREMENTS: the test's command, with the packages that it needs and no others.
python() {
    python3 -m venv "$scratch/venv"
    "$scratch/venv/bin/pip" install --quiet --disable-pip-version-check -r "$2"
    run=("$scratch/venv/bin/python" "$1")
}

case $client in
etcd3) python test_etcd3.py requirements.txt ;;
etcd3gw) python test_etcd3gw.py requirements-etcd3gw.txt ;;
patroni) python test_patroni.py requirements-patroni.txt ;;
gateway) run=(./gateway.sh) ;;
*) usage ;;
esac
endpoints=$(./cluster.sh start "$scratch/quorate" "$quorate")
"${run[@]}" "$endpoints"
./cluster.sh stop "$scratch/quorate"
