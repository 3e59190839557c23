#!/usr/bin/env bash
# Two PostgreSQL servers under Patroni on three nodes of Quorate: what patroni_postgres.py says of them holds while
# Quorate's leader and then the primary are killed.
#
#   tests/e2e/patroni_postgres.sh target/release/quorate
#
# As root on Debian it installs what it needs (postgresql, python3-venv, and Patroni from PyPI) and runs the databases
# as the user postgres, for PostgreSQL runs as anybody but root. Ends with the line "N passed, N failed"; the exit code
# is 0 if nothing failed.
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

# The newest PostgreSQL of Debian's packages.
programs() { find /usr/lib/postgresql/*/bin -name pg_ctl -printf '%h\n' 2>/dev/null | sort -V | tail -1; }

# The Python that the databases' user can read: not one in somebody's home.
python=/usr/bin/python3
if [ "$(id -u)" -eq 0 ]; then
    missing=()
    [ -n "$(programs)" ] || missing+=(postgresql)
    command -v curl >/dev/null || missing+=(curl)
    "$python" -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
    if [ ${#missing[@]} -gt 0 ]; then
        # At this run level Debian starts no server that it installs.
        apt-get update -qq
        RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" >/dev/null
    fi
fi
[ -n "$(programs)" ] || { echo "$0: PostgreSQL is not installed" >&2; exit 1; }

"$python" -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install --quiet --disable-pip-version-check -r requirements-patroni.txt
endpoints=$(./cluster.sh start "$scratch/quorate" "$quorate")
chmod 711 "$scratch"
mkdir "$scratch/databases"
[ "$(id -u)" -ne 0 ] || chown postgres:postgres "$scratch/databases"
"$scratch/venv/bin/python" patroni_postgres.py "$endpoints" "$scratch/quorate" "$scratch/databases" "$(programs)"
