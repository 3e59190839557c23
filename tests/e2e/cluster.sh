#!/usr/bin/env bash
# Three `quorate start` processes for tests in any language: started on free ports of a loopback address, killed,
# restarted, stopped. What it knows of them is in a directory, so that it is called again and again.
#
#   cluster.sh start DIR QUORATE [FLAG...]   starts three nodes, waits until they can write, prints their endpoints
#   cluster.sh start-tls DIR QUORATE FLAG... the same with TLS for clients, by the certificates in the flags
#   cluster.sh endpoints DIR                 host:port,host:port,host:port
#   cluster.sh kill-leader DIR               kill -9 of the leader; prints its number
#   cluster.sh leader DIR                    the number of the node that leads
#   cluster.sh kill DIR N                    kill -9 of a node
#   cluster.sh restart DIR                   starts the nodes that were killed; waits until all can write
#   cluster.sh pids DIR                      the processes that run
#   cluster.sh stop DIR                      ends them all; they must not have panicked
set -euo pipefail

usage() { sed -n 's/^#   //p' "$0" >&2; exit 2; }
[ $# -ge 2 ] || usage
command=$1
mkdir -p "$2"
dir=$(realpath "$2")
shift 2

# free_ports N: so many that nobody listens at. They are below those that Linux gives to whoever connects, so that a
# killed node finds its own still free.
free_ports() {
    python3 - "$1" <<'PYTHON'
import random, socket, sys
found = []
for port in random.sample(range(10240, 32768), 1000):
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
            found.append(port)
        except OSError:
            continue
    if len(found) == int(sys.argv[1]):
        break
print(*found)
PYTHON
}

endpoint() { sed -n "$1p" "$dir/clients"; }

# What our own look at the nodes goes by. Theirs may be certificates that nobody here knows.
scheme() { cat "$dir/scheme"; }
page() { curl -skf -m 5 "$(scheme)://$(endpoint "$1")/$2"; }

launch() {
    local n=$1 quorate flags=() members
    quorate=$(cat "$dir/quorate")
    mapfile -t flags <"$dir/flags"
    members=$(sed "s,.*,http://127.0.0.1:&," "$dir/peers" | sed '=' | sed 'N; s/\n/=/; s/^/n/' | paste -sd,)
    setsid "$quorate" start --name "n$n" --data-dir "$dir/n$n.data" --initial-cluster "$members" \
        --listen-client-urls "$(scheme)://$(endpoint "$n")" --listen-peer-urls "http://127.0.0.1:$(sed -n "${n}p" "$dir/peers")" \
        ${flags[@]+"${flags[@]}"} >>"$dir/n$n.log" 2>&1 </dev/null &
    echo $! >"$dir/n$n.pid"
}

running() { [ -s "$dir/n$1.pid" ] && kill -0 "$(cat "$dir/n$1.pid")" 2>/dev/null; }

# end N SIGNAL: ends a node and waits until it is gone.
end() {
    local process
    process=$(cat "$dir/n$1.pid")
    kill "-$2" "$process" 2>/dev/null || true
    for _ in $(seq 300); do
        [ -e "/proc/$process" ] && ! grep -q '^State:.Z' "/proc/$process/status" 2>/dev/null || break
        sleep 0.1
    done
    rm "$dir/n$1.pid"
}

# A node that answers here has a leader, and has seen a read of its own through.
await_healthy() {
    local n
    for n in 1 2 3; do
        for _ in $(seq 600); do
            page "$n" health | grep '"true"' >/dev/null && continue 2
            running "$n" || break
            sleep 0.1
        done
        echo "node n$n does not answer:" >&2
        tail -n 20 "$dir/n$n.log" >&2
        return 1
    done
}

leader() {
    local n
    for _ in $(seq 600); do
        for n in 1 2 3; do
            running "$n" || continue
            if page "$n" metrics | grep '^etcd_server_is_leader 1' >/dev/null; then
                echo "$n"
                return
            fi
        done
        sleep 0.1
    done
    echo "there is no leader" >&2
    return 1
}

stop() {
    local n code=0
    for n in 1 2 3; do
        if [ -s "$dir/n$n.pid" ]; then end "$n" TERM; fi
        if grep -i panic "$dir/n$n.log" >&2; then code=1; fi
    done
    return "$code"
}

case $command in
start | start-tls)
    [ $# -ge 1 ] || usage
    if [ "$command" == start ]; then echo http; else echo https; fi >"$dir/scheme"
    realpath "$1" >"$dir/quorate"
    shift
    if [ $# -gt 0 ]; then printf '%s\n' "$@"; fi >"$dir/flags"
    ports=$(free_ports 6)
    tr ' ' '\n' <<<"$ports" | head -3 | sed 's/^/127.0.0.1:/' >"$dir/clients"
    tr ' ' '\n' <<<"$ports" | tail -3 >"$dir/peers"
    for n in 1 2 3; do launch "$n"; done
    await_healthy
    paste -sd, "$dir/clients"
    ;;
endpoints) paste -sd, "$dir/clients" ;;
kill-leader)
    n=$(leader)
    end "$n" KILL
    echo "$n"
    ;;
leader) leader ;;
kill) end "$1" KILL ;;
restart)
    for n in 1 2 3; do running "$n" || launch "$n"; done
    await_healthy
    ;;
pids) cat "$dir"/n?.pid ;;
stop) stop ;;
*) usage ;;
esac
