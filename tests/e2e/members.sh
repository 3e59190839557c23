#!/usr/bin/env bash
# What Debian's etcdctl (package etcd-client) is told that changes the members of a cluster of three nodes, while all of
# them run and while one is dead. The texts are those of etcd 3.4.23 and 3.5.1 in the same situation.
#
#   tests/e2e/members.sh target/release/quorate
#
# Ends with the line "N passed, N failed"; the exit code is 0 if nothing failed.
set -uo pipefail

[ $# -eq 1 ] || { echo "usage: $0 QUORATE" >&2; exit 2; }
quorate=$(realpath "$1")
here=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
export ETCDCTL_API=3
unset ETCDCTL_WRITE_OUT ETCDCTL_USER ETCDCTL_PASSWORD ETCDCTL_ENDPOINTS
source "$here/lib.sh"

nodes() { "$here/cluster.sh" "$1" "$scratch/nodes" "${@:2}"; }
leave() { nodes stop >/dev/null 2>&1; cleanup; }
trap leave EXIT

endpoint() { sed -n "$1p" "$scratch/nodes/clients"; }

# ctl N ARGUMENT...: asks a node by etcdctl; the last line of what it says. etcdctl logs what it does not try again.
ctl() {
    local node=$1
    shift
    timeout 60 etcdctl --endpoints "$(endpoint "$node")" --command-timeout 20s "$@" 2>&1 | grep -v '"level":' | tail -n 1
}

# list N: the members as a node lists them.
list() { timeout 60 etcdctl --endpoints "$(endpoint "$1")" member list; }

# id N: a node's id.
id() { list "$1" | grep ", n$1, " | cut -d, -f1; }

unhealthy="Error: etcdserver: unhealthy cluster"
declare -A ids
nowhere=http://127.0.0.1:9

start() {
    nodes start "$quorate" "$@" >/dev/null || exit 1
    for n in 1 2 3; do ids[$n]=$(id "$n"); done
    leader=$(nodes leader)
    follower=$((leader % 3 + 1))
    third=$((6 - leader - follower))
}

learners() {
    local learner
    check_like "a learner is added" "INITIAL_CLUSTER_STATE" "$(ctl "$leader" member add d --learner --peer-urls $nowhere)"
    check "a second one is too many" "Error: etcdserver: too many learner members in cluster" \
        "$(ctl "$follower" member add e --learner --peer-urls http://127.0.0.1:7)"
    learner=$(list "$leader" | grep 127.0.0.1:9, | cut -d, -f1)
    check "it is not in sync" "Error: etcdserver: can only promote a learner member which is in sync with leader" \
        "$(ctl "$leader" member promote "$learner")"
    check "a voter is none" "Error: etcdserver: can only promote a learner member" \
        "$(ctl "$leader" member promote "${ids[1]}")"
    check_like "it goes" "^Member +$learner removed from cluster" "$(ctl "$follower" member remove "$learner")"
}

one_is_dead() {
    nodes kill "$third"
    local node
    for node in "$leader" "$follower"; do
        check "node $node: remove the leader" "$unhealthy" "$(ctl "$node" member remove "${ids[$leader]}")"
        check "node $node: remove the follower" "$unhealthy" "$(ctl "$node" member remove "${ids[$follower]}")"
        check "node $node: add a voter" "$unhealthy" "$(ctl "$node" member add x --peer-urls $nowhere)"
        check "node $node: add a learner" "$unhealthy" "$(ctl "$node" member add x --learner --peer-urls $nowhere)"
        check "node $node: remove nobody" "Error: etcdserver: member not found" "$(ctl "$node" member remove 1234)"
        check "node $node: it works" "OK" "$(ctl "$node" put key "$node")"
    done
    check_like "the dead one is removed" "^Member +${ids[$third]} removed from cluster" \
        "$(ctl "$follower" member remove "${ids[$third]}")"
    check "two are left" 2 "$(list "$leader" | wc -l)"
    check "they work" "OK" "$(ctl "$leader" put key 2)"
    check_like "one of two goes" "^Member +${ids[$leader]} removed from cluster" \
        "$(ctl "$follower" member remove "${ids[$leader]}")"
    check "the last one stays" "Error: etcdserver: re-configuration failed due to not enough started members" \
        "$(ctl "$follower" member remove "${ids[$follower]}")"
}

unchecked() {
    nodes kill "$third"
    check_like "unchecked: a voter is added" "INITIAL_CLUSTER_STATE" \
        "$(ctl "$leader" member add x --peer-urls $nowhere)"
}

start
learners
one_is_dead
nodes stop >/dev/null || failed=$((failed + 1))
rm -r "$scratch/nodes"
start --strict-reconfig-check=false
unchecked
summary
