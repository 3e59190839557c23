#!/usr/bin/env bash
# Backups between Quorate and a real etcd, both ways, with Debian's etcd and etcdctl (packages etcd-server and
# etcd-client), and what happens to files that are damaged and to work that is cut short.
#
#   tests/e2e/snapshot.sh target/release/quorate
#
# Ends with the line "N passed, N failed"; the exit code is 0 if nothing failed.
set -uo pipefail

[ $# -eq 1 ] || { echo "usage: $0 QUORATE" >&2; exit 2; }
quorate=$(realpath "$1")
export ETCDCTL_API=3
unset ETCDCTL_WRITE_OUT ETCDCTL_USER ETCDCTL_PASSWORD ETCDCTL_ENDPOINTS
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
host=127.0.82.$((1 + $$ % 250))
processes=()

cleanup() {
    local process
    for process in "${processes[@]}"; do kill -9 "$process" 2>/dev/null; done
    wait 2>/dev/null
    mountpoint -q "$scratch/small" && umount "$scratch/small"
    rm -rf "$scratch"
}
trap cleanup EXIT

# ctl ENDPOINT ARGUMENT...: runs etcdctl, bounded, with its errors in the text.
ctl() {
    local endpoint=$1
    shift
    timeout 60 etcdctl --endpoints "$endpoint" "$@" 2>&1
}

# await_service ENDPOINT: until keys are served there.
await_service() {
    for _ in $(seq 300); do
        [[ "$(ctl "$1" --command-timeout=2s get health 2>&1)" =~ Error|error ]] || return 0
        [[ "$(ctl "$1" --user root:secret --command-timeout=2s get health 2>&1)" =~ Error|error ]] || return 0
        sleep 0.2
    done
    echo "nothing is served at $1" >&2
    return 1
}

# run NAME COMMAND...: in the background; its output goes to a file of that name.
run() {
    local name=$1
    shift
    "$@" >"$scratch/$name.log" 2>&1 &
    processes+=($!)
    last_process=$!
}

stop() {
    kill "$1" 2>/dev/null
    wait "$1" 2>/dev/null
}

# dump ENDPOINT [ARGUMENT...]: the revision, and every key with all that is known of it.
dump() {
    local endpoint=$1
    shift
    ctl "$endpoint" "$@" get "" --from-key -w json | python3 -c '
import json, sys
answer = json.load(sys.stdin)
print("revision", answer["header"]["revision"])
for kv in answer.get("kvs", []):
    print(*[kv.get(field, 0) for field in ("key", "value", "create_revision", "mod_revision", "version", "lease")])'
}

# keys ENDPOINT REVISION [ARGUMENT...]: what dump says of the keys at a revision.
keys_at() {
    local endpoint=$1 revision=$2
    shift 2
    dump "$endpoint" "$@" --rev="$revision" | tail -n +2
}

# fill ENDPOINT: keys of all kinds, history, a compaction, leases.
fill() {
    local endpoint=$1 n
    for n in $(seq 40); do ctl "$endpoint" put "k/$((n % 17))" "value $n" >/dev/null; done
    ctl "$endpoint" del "k/3" >/dev/null
    ctl "$endpoint" put "k/3" "again" >/dev/null
    ctl "$endpoint" del "k/4" >/dev/null
    head -c 700000 /dev/zero | tr '\0' 'x' | ctl "$endpoint" put large >/dev/null
    printf '\nput t/1 a\nput t/2 b\ndel k/5\n\n\n' | ctl "$endpoint" txn >/dev/null
    ctl "$endpoint" compact 20 >/dev/null
    ctl "$endpoint" lease grant 3000 | awk '{print $2}' >"$scratch/lease"
    ctl "$endpoint" put leased yes --lease="$(cat "$scratch/lease")" >/dev/null
    ctl "$endpoint" lease grant 4000 >/dev/null
    ctl "$endpoint" put last one >/dev/null
}

# guard ENDPOINT: users, roles, and authentication on.
guard() {
    local endpoint=$1
    ctl "$endpoint" user add root:secret >/dev/null
    ctl "$endpoint" user grant-role root root >/dev/null
    ctl "$endpoint" role add reader >/dev/null
    ctl "$endpoint" role grant-permission reader --prefix=true read k/ >/dev/null
    ctl "$endpoint" role grant-permission reader readwrite t/1 >/dev/null
    ctl "$endpoint" user add alice:wonder >/dev/null
    ctl "$endpoint" user grant-role alice reader >/dev/null
    ctl "$endpoint" auth enable >/dev/null
}

# check_same NAME: what $new serves is what $old did.
check_same() {
    local name=$1 root=(--user root:secret) lease
    check "$name: every key, with its revisions" "$(cat "$scratch/dump")" "$(dump "$new" "${root[@]}")"
    check "$name: the past" "$(cat "$scratch/past")" "$(keys_at "$new" 25 "${root[@]}")"
    check_like "$name: what was compacted" "required revision has been compacted" \
        "$(ctl "$new" "${root[@]}" get k/1 --rev=10)"
    lease=$(cat "$scratch/lease")
    check "$name: leases" "$(cat "$scratch/leases")" "$(ctl "$new" "${root[@]}" lease list | sort)"
    check_like "$name: a lease's time and keys" "granted with TTL\(3000s\), remaining\([0-9]+s\), attached keys\(\[leased\]\)" \
        "$(ctl "$new" "${root[@]}" lease timetolive --keys "$lease")"
    check "$name: users" $'alice\nroot' "$(ctl "$new" "${root[@]}" user list)"
    check "$name: a role" "$(cat "$scratch/role")" "$(ctl "$new" "${root[@]}" role get reader)"
    check "$name: a user reads what it may" $'k/1\nvalue 35' "$(ctl "$new" --user alice:wonder get k/1)"
    check_like "$name: and nothing else" "permission denied" "$(ctl "$new" --user alice:wonder get large)"
    check_like "$name: a wrong password" "authentication failed" "$(ctl "$new" --user alice:other get k/1)"
    check "$name: revoking a lease ends its key" "" "$(
        ctl "$new" "${root[@]}" lease revoke "$lease" >/dev/null
        ctl "$new" "${root[@]}" get leased
    )"
    check "$name: it goes on" "OK" "$(ctl "$new" "${root[@]}" put k/1 more)"
}

# remember ENDPOINT: what check_same compares with.
remember() {
    local root=(--user root:secret)
    dump "$1" "${root[@]}" >"$scratch/dump"
    keys_at "$1" 25 "${root[@]}" >"$scratch/past"
    ctl "$1" "${root[@]}" lease list | sort >"$scratch/leases"
    ctl "$1" "${root[@]}" role get reader >"$scratch/role"
}

start_etcd() {
    local name=$1 port=$2
    shift 2
    run "$name" etcd --name default --data-dir "$scratch/$name" --listen-client-urls "http://$host:$port" \
        --advertise-client-urls "http://$host:$port" --listen-peer-urls "http://$host:$((port + 1))" \
        --initial-advertise-peer-urls "http://$host:$((port + 1))" \
        --initial-cluster "default=http://$host:$((port + 1))" "$@"
}

start_quorate() {
    local name=$1 port=$2
    shift 2
    run "$name" "$quorate" start --name "$name" --data-dir "$scratch/$name" \
        --listen-client-urls "http://$host:$port" --listen-peer-urls "http://$host:$((port + 1))" "$@"
}

from_quorate_to_etcd() {
    start_quorate q 2379
    local q=$last_process old=$host:2379
    new=$host:2479
    await_service "$old" || return
    fill "$old"
    guard "$old"
    remember "$old"
    check_like "a backup needs rights" "permission denied" \
        "$(ctl "$old" --user alice:wonder snapshot save "$scratch/none.db")"
    check_like "etcdctl snapshot save" "Snapshot saved at" \
        "$(ctl "$old" --user root:secret snapshot save "$scratch/q.db")"
    check_like "quorate snapshot save" "SHA-256 verified" \
        "$("$quorate" snapshot save "$scratch/q2.db" --endpoints "$old" --user root:secret 2>&1)"
    # Each login is a command of the log, and the index of the last command is in the file.
    check "both saved the same" "$("$quorate" snapshot status "$scratch/q.db" | cut -d, -f2-)" \
        "$("$quorate" snapshot status "$scratch/q2.db" | cut -d, -f2-)"
    check "it is whole pages and a hash" 32 $(($(stat -c %s "$scratch/q.db") % 4096))
    check "the status is etcdctl's" "$(etcdctl snapshot status "$scratch/q.db" 2>&1)" \
        "$("$quorate" snapshot status "$scratch/q.db" 2>&1)"
    local fields='import json,sys; print(sorted(json.load(sys.stdin).items()))'
    check "and so it is for programs" \
        "$(etcdctl snapshot status "$scratch/q.db" -w json 2>&1 | python3 -c "$fields")" \
        "$("$quorate" snapshot status "$scratch/q.db" -w json 2>&1 | python3 -c "$fields")"
    stop "$q"
    etcdctl snapshot restore "$scratch/q.db" --data-dir "$scratch/etcd" --name default \
        --initial-cluster "default=http://$host:2480" \
        --initial-advertise-peer-urls "http://$host:2480" >"$scratch/restore.log" 2>&1
    check "etcdctl snapshot restore" 0 $?
    start_etcd etcd 2479
    etcd=$last_process
    await_service "$new" || { tail -5 "$scratch/etcd.log" >&2; return; }
    check_same "etcd, from Quorate's backup"
}

from_etcd_to_quorate() {
    local old=$host:2479 name port cluster
    # A lease again: the one before was revoked by the check.
    ctl "$old" --user root:secret lease grant 3000 | awk '{print $2}' >"$scratch/lease"
    ctl "$old" --user root:secret put leased yes --lease="$(cat "$scratch/lease")" >/dev/null
    ctl "$old" --user root:secret put k/1 "value 35" >/dev/null
    ctl "$old" --user root:secret del k/2 >/dev/null
    remember "$old"
    ctl "$old" --user root:secret snapshot save "$scratch/e.db" >/dev/null
    check "the status of etcd's file" "$(etcdctl snapshot status "$scratch/e.db" 2>&1)" \
        "$("$quorate" snapshot status "$scratch/e.db" 2>&1)"
    stop "$etcd"
    cp "$scratch/etcd/member/snap/db" "$scratch/raw.db"
    cluster="a=http://$host:2580,b=http://$host:2582,c=http://$host:2584"
    port=2580
    for name in a b c; do
        check_like "quorate snapshot restore of etcd's file" "$name of the new cluster" \
            "$("$quorate" snapshot restore "$scratch/e.db" --name $name --data-dir "$scratch/$name" \
                --initial-cluster "$cluster" --initial-advertise-peer-urls "http://$host:$port" 2>&1)"
        port=$((port + 2))
    done
    port=2579
    for name in a b c; do
        start_quorate $name $port --initial-cluster "$cluster"
        port=$((port + 2))
    done
    for new in $host:2583 $host:2581 $host:2579; do
        await_service "$new" || { tail -5 "$scratch/a.log" >&2; return; }
        check "a member of the restored cluster" "$(cat "$scratch/dump")" "$(dump "$new" --user root:secret)"
    done
    check "all members have the same hash" 1 "$(
        for name in 2579 2581 2583; do
            ctl "$host:$name" --user root:secret endpoint hashkv -w fields | grep '"Hash"'
        done | sort -u | wc -l
    )"
    check_same "Quorate, from etcd's backup"
    check_like "a file out of a data directory" "no hash at its end.*--skip-hash-check" \
        "$("$quorate" snapshot restore "$scratch/raw.db" --data-dir "$scratch/raw" 2>&1)"
    check_like "a file out of a data directory, that may be" "new cluster" \
        "$("$quorate" snapshot restore "$scratch/raw.db" --data-dir "$scratch/raw" --skip-hash-check 2>&1)"
}

damage() {
    local size error
    size=$(stat -c %s "$scratch/q.db")
    cp "$scratch/q.db" "$scratch/flipped.db"
    printf '\x55' | dd of="$scratch/flipped.db" bs=1 seek=$((size / 2)) conv=notrunc 2>/dev/null
    error=$("$quorate" snapshot restore "$scratch/flipped.db" --data-dir "$scratch/damaged" 2>&1)
    check_like "a flipped byte" "is damaged: its SHA-256 is" "$error"
    head -c $((size / 2 / 4096 * 4096)) "$scratch/q.db" >"$scratch/cut.db"
    error=$("$quorate" snapshot restore "$scratch/cut.db" --data-dir "$scratch/damaged" 2>&1)
    check_like "a cut file" "no hash at its end" "$error"
    error=$("$quorate" snapshot restore "$scratch/cut.db" --data-dir "$scratch/damaged" --skip-hash-check 2>&1)
    check_like "a cut file, its hash not asked for" "cut off: it says that it has" "$error"
    head -c 65536 /dev/urandom >"$scratch/noise.db"
    error=$("$quorate" snapshot restore "$scratch/noise.db" --data-dir "$scratch/damaged" --skip-hash-check 2>&1)
    check_like "noise" "not a bbolt database" "$error"
    check "nothing was made of them" "" "$(ls -d "$scratch"/damaged* 2>/dev/null)"
    mkdir "$scratch/taken" && touch "$scratch/taken/file"
    error=$("$quorate" snapshot restore "$scratch/q.db" --data-dir "$scratch/taken" 2>&1)
    check_like "a directory that is not empty" "is not empty" "$error"
    check "which is left alone" "file" "$(ls "$scratch/taken")"
}

full_disk() {
    mkdir -p "$scratch/small"
    local error
    if [ "$(id -u)" -eq 0 ] && mount -t tmpfs -o size=256k tmpfs "$scratch/small" 2>/dev/null; then
        error=$("$quorate" snapshot restore "$scratch/q.db" --data-dir "$scratch/small/q" 2>&1)
        check_like "a restore without space" "No space left" "$error"
        check "leaves nothing" "" "$(ls "$scratch/small")"
        error=$("$quorate" snapshot save "$scratch/small/s.db" --endpoints "$host:2579" --user root:secret 2>&1)
        check_like "a save without space" "cannot write .*s.db.part.*No space left" "$error"
        check "leaves nothing either" "" "$(ls "$scratch/small")"
    else
        error=$(trap '' XFSZ; ulimit -f 512; "$quorate" snapshot save "$scratch/small/s.db" --endpoints "$host:2579" --user root:secret 2>&1)
        check_like "a save without space" "cannot write .*s.db.part" "$error"
        check "leaves nothing" "" "$(ls "$scratch/small")"
    fi
}

# What is killed leaves no directory, and no file, under the name it was to have, or a whole one.
killed() {
    local n process whole=0
    for n in 1 2 3 4 5 6 7 8; do
        "$quorate" snapshot restore "$scratch/q.db" --data-dir "$scratch/killed" >/dev/null 2>&1 &
        process=$!
        sleep "0.0$((n * 12 % 100))"
        kill -9 "$process" 2>/dev/null
        wait "$process" 2>/dev/null
        if [ -e "$scratch/killed" ]; then
            [ -e "$scratch/killed/IDENTITY" ] && [ -e "$scratch/killed/RESTORED" ] && whole=$((whole + 1))
            rm -rf "$scratch/killed"
        else
            whole=$((whole + 1))
        fi
        "$quorate" snapshot save "$scratch/killed.db" --endpoints "$host:2579" --user root:secret >/dev/null 2>&1 &
        process=$!
        sleep "0.0$((n * 12 % 100))"
        kill -9 "$process" 2>/dev/null
        wait "$process" 2>/dev/null
        [ -e "$scratch/killed.db" ] && ! "$quorate" snapshot status "$scratch/killed.db" >/dev/null && whole=-100
        rm -f "$scratch/killed.db"
    done
    check "what was killed left nothing in part" 8 "$whole"
    check_like "and the next attempt is not in its way" "new cluster" \
        "$("$quorate" snapshot restore "$scratch/q.db" --data-dir "$scratch/killed" 2>&1)"
    check_like "nor that of saving" "SHA-256 verified" \
        "$("$quorate" snapshot save "$scratch/killed.db" --endpoints "$host:2579" --user root:secret 2>&1)"
    check "and nothing else is left" "" "$(ls -d "$scratch"/killed*.part "$scratch"/killed*.restoring 2>/dev/null)"
}

from_quorate_to_etcd
from_etcd_to_quorate
damage
full_disk
killed

summary
