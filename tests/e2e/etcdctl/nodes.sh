# For etcdctl.sh: starts and stops the nodes, of Quorate or of etcd. Sourced, not run.

# A loopback address of its own, so that it meets no other program's ports.
host=127.0.84.$((1 + $$ % 250))

client_url() { echo "http://$host:${1}2379"; }
peer_url() { echo "http://$host:${1}2380"; }
endpoint() { echo "$host:${1}2379"; }

# start_node N NAME=URL,... [FLAG...]: node N of a cluster of these members.
start_node() {
    local n=$1 members=$2 command=("$program")
    shift 2
    # What Quorate does by itself, etcd does when it is told to.
    [[ $(basename "$program") == etcd* ]] || command+=(start --auto-promote-learners=false)
    "${command[@]}" --name "n$n" --data-dir "$scratch/n$n.data" --initial-cluster "$members" \
        --listen-client-urls "$(client_url "$n")" --advertise-client-urls "$(client_url "$n")" \
        --listen-peer-urls "$(peer_url "$n")" --initial-advertise-peer-urls "$(peer_url "$n")" \
        --bcrypt-cost 4 "$@" >"$scratch/n$n.log" 2>&1 </dev/null &
    running[n$n]=$!
}

# Waits until keys are served at these endpoints.
await_service() {
    local endpoint
    for endpoint in "$@"; do
        for _ in $(seq 300); do
            "$etcdctl" --endpoints "$endpoint" get none --command-timeout 2s >/dev/null 2>&1 && continue 2
            sleep 0.1
        done
        echo "nothing is served at $endpoint" >&2
        exit 1
    done
}

# Three nodes, which every command asks unless it is told otherwise.
start_cluster() {
    local n initial
    initial="n1=$(peer_url 1),n2=$(peer_url 2),n3=$(peer_url 3)"
    for n in 1 2 3; do start_node "$n" "$initial"; done
    await_service "$(endpoint 1)" "$(endpoint 2)" "$(endpoint 3)"
    asked=$(endpoint 1),$(endpoint 2),$(endpoint 3)
}

stop_cluster() {
    local name
    for name in "${!running[@]}"; do
        [[ $name == n? ]] && finish "$name" TERM
    done
    check "no node has panicked" "" "$(grep -i -A5 '^panic\|panicked' "$scratch"/n?.log)"
}

# at N ARGUMENT...: etcdctl that asks this node only.
at() {
    local n=$1
    shift
    asked=$(endpoint "$n") ctl "$@"
}
